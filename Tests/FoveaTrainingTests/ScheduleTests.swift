import Foundation
import FoveaIO
import FoveaTraining
import Testing

@Suite struct ScheduleTests {
    @Test("the warm-up rises in a straight line: step s has (s + 1) / w of the peak")
    func warmup() {
        let schedules: [Schedule] = [
            .constant(0.4, warmup: 8), .warmupLinear(peak: 0.4, warmup: 8, total: 100),
            .warmupCosine(peak: 0.4, warmup: 8, total: 100, floor: 0.1),
        ]
        for schedule in schedules {
            for step in 0..<8 { #expect(abs(schedule.rate(at: step) - 0.05 * Double(step + 1)) < 1e-15) }
            #expect(abs(schedule.rate(at: 8) - 0.4) < 1e-15)
        }
    }

    @Test func constant() {
        for step in [0, 1, 1_000_000] { #expect(Schedule.constant(3e-4).rate(at: step) == 3e-4) }
        #expect(Schedule.constant(3e-4, warmup: 2).rate(at: 99) == 3e-4)
    }

    @Test func linear() {
        let schedule = Schedule.warmupLinear(peak: 2, warmup: 10, total: 110, floor: 0.25)
        for step in 10...110 {
            let want = 2 + (0.5 - 2) * Double(step - 10) / 100
            #expect(abs(schedule.rate(at: step) - want) < 1e-14, "step \(step)")
        }
        #expect(Schedule.warmupLinear(peak: 2, warmup: 0, total: 4).rate(at: 0) == 2)
        #expect(Schedule.warmupLinear(peak: 2, warmup: 0, total: 4).rate(at: 1) == 1.5)
    }

    @Test func cosine() {
        let schedule = Schedule.warmupCosine(peak: 2, warmup: 10, total: 110, floor: 0.25)
        for step in 10...110 {
            let want = 0.5 + 1.5 * pow(cos(Double.pi / 2 * Double(step - 10) / 100), 2)
            #expect(abs(schedule.rate(at: step) - want) < 1e-14, "step \(step)")
        }
        #expect(abs(Schedule.warmupCosine(peak: 1, warmup: 0, total: 10).rate(at: 5) - 0.5) < 1e-15)
        #expect(abs(Schedule.warmupCosine(peak: 1, warmup: 0, total: 10).rate(at: 10)) < 1e-15)
    }

    @Test(
        "200 rates of PyTorch's schedules",
        arguments: [
            ("constant", .constant(0.05, warmup: 20)),
            ("linear", .warmupLinear(peak: 0.05, warmup: 20, total: 200, floor: 0.1)),
            ("cosine", .warmupCosine(peak: 0.05, warmup: 20, total: 200, floor: 0.1)),
        ] as [(String, Schedule)])
    func pytorch(_ name: String, _ schedule: Schedule) throws {
        let file = try SafetensorsFile(reading: repository + "/Tests/Fixtures/optimizers/optimizers.safetensors")
        let rates = try file.tensor("schedule.\(name)").doubles
        #expect(rates.count == 200)
        #expect(difference(rates.indices.map { schedule.rate(at: $0) }, rates) < 1e-15)
    }

    @Test("beyond the total the rate stays at the floor")
    func beyond() {
        for step in [110, 111, 5_000] {
            let linear = Schedule.warmupLinear(peak: 2, warmup: 10, total: 110, floor: 0.25)
            let cosine = Schedule.warmupCosine(peak: 2, warmup: 10, total: 110, floor: 0.25)
            #expect(abs(linear.rate(at: step) - 0.5) < 1e-15)
            #expect(abs(cosine.rate(at: step) - 0.5) < 1e-15)
        }
    }

    @Test("a warm-up as long as the run, or longer, and a total of zero stay finite")
    func degenerate() {
        let schedules: [Schedule] = [
            .warmupCosine(peak: 1, warmup: 5, total: 5), .warmupCosine(peak: 1, warmup: 9, total: 5),
            .warmupLinear(peak: 1, warmup: 0, total: 0),
        ]
        for schedule in schedules {
            for step in 0..<12 { #expect((0...1).contains(schedule.rate(at: step))) }
        }
    }
}
