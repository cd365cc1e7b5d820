import FoveaNN
import FoveaTensor
import FoveaTraining
import Testing

@Suite struct StageTests {
    private func trains(_ settings: TrainingSettings, _ path: String, at step: Int) -> Bool {
        settings.trained(at: step)(path, .zeros([1]))
    }

    @Test("a first stage trains its paths alone, then all; what is frozen stays so in both")
    func stages() {
        var settings = TrainingSettings(steps: 10)
        #expect(trains(settings, "encoder.weight", at: 0))
        settings.trained = !.path("encoder.**")
        settings.firstStage = (4, .path("projector.**") || .path("encoder.**"))
        for step in 0..<10 {
            #expect(trains(settings, "projector.weight", at: step))
            #expect(trains(settings, "decoder.weight", at: step) == (step >= 4))
            #expect(!trains(settings, "encoder.weight", at: step))
        }
    }
}
