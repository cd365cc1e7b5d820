import FoveaCompression
import Testing

@Suite("how many tokens each layer sees, and what papers count for it") struct ReductionScheduleTests {
    @Test("constant, listed, solved for what is left, and for the mean")
    func schedules() throws {
        // FiCoCo-V as published: 42 a layer in the last 11 of 23 layers leave 114 of 576.
        let published = ReductionSchedule.constant(42, from: 12, layers: 23)
        #expect(published.remaining(of: 576) == 114)
        #expect(published.entering(576).last == 576 - 10 * 42)
        for count in [1, 64, 114, 575, 576] {
            let solved = ReductionSchedule.reaching(count, of: 576, from: 12, layers: 23)
            #expect(solved.remaining(of: 576) == count)
            #expect(solved.removed.prefix(12).allSatisfy { $0 == 0 })
            let active = solved.removed.dropFirst(12)
            #expect(active.max()! - active.min()! <= 1)
        }
        // FiCoCo-L as published: 14 a layer from the sixth of 32 layers on.
        let language = ReductionSchedule.constant(14, from: 5, layers: 32)
        #expect(language.remaining(of: 576) == 198)
        let solved = try #require(ReductionSchedule.averaging(192, of: 576, from: 3, layers: 32))
        let mean = { (schedule: ReductionSchedule) in Double(schedule.entering(576).reduce(0, +)) / 32 }
        #expect(mean(solved) <= 192)
        #expect(mean(.constant(solved.removed[3] - 1, from: 3, layers: 32)) > 192)
        #expect(ReductionSchedule.averaging(10, of: 576, from: 3, layers: 32) == nil)
        #expect(ReductionSchedule([5, 0, 9]).entering(10) == [10, 5, 5])
        #expect(ReductionSchedule([5, 0, 9]).remaining(of: 10) == 1)
        #expect(ReductionSchedule([5, 0, 9], least: 3).entering(10) == [10, 5, 5])
        #expect(ReductionSchedule([5, 0, 9], least: 3).remaining(of: 10) == 3)
        let solved64 = ReductionSchedule.reaching(64, of: 576, from: 0, layers: 4)
        #expect([576, 300, 65, 64, 9].map(solved64.remaining) == [64, 64, 64, 64, 9])
    }

    @Test("published figures of LLaVA-1.5-7B: 3.82, 1.25, 0.83 and 0.42 T, and FastV's share of 0.57")
    func published() {
        let gated = DecoderFLOPs.llava7B
        let plain = DecoderFLOPs(width: 4096, hidden: 11008, layers: 32, isGated: false)
        let figures: [(tokens: Int, plain: Double, gated: Double)] = [
            (576, 2.986, 3.817), (320, 1.637, 2.099), (192, 0.976, 1.253), (128, 0.649, 0.833), (114, 0.577, 0.742),
            (64, 0.323, 0.416), (58, 0.293, 0.376), (32, 0.161, 0.208),
        ]
        for (tokens, ofPlain, ofGated) in figures {
            #expect(abs(Double(plain.total(tokens)) / 1e12 - ofPlain) < 1e-3, "\(tokens)")
            #expect(abs(Double(gated.total(tokens)) / 1e12 - ofGated) < 1e-3, "\(tokens)")
        }
        // FastV: half of the visual tokens gone behind two layers, of a prompt of 640 tokens of which 576 are visual.
        let counts = [Int](repeating: 640, count: 2) + [Int](repeating: 352, count: 30)
        #expect(abs(plain.share(counts, of: 640) - 0.571) < 5e-4)
        #expect(abs(gated.share(counts, of: 640) - 0.572) < 5e-4)
    }
}
