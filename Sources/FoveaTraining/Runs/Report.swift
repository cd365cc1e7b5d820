/// What came out of a finished run: `report.json`.
public struct TrainingReport: Sendable, Codable {
    /// The recipe's name.
    public var recipe: String
    public var seed: Int
    public var steps: Int
    /// Steps among them that were skipped because their loss or gradient was not finite; nil for none.
    public var skippedSteps: Int?
    /// Numbers that were trained.
    public var parameters: Int
    /// Share of right answers on the test samples, looked at once, at the end; nil in a run that holds validation
    /// samples out, since such a run is for choosing settings.
    public var testAccuracy: Double?
    public var testLoss: Double?
    /// Share of right answers on the samples that were trained on, without augmentation.
    public var trainAccuracy: Double
    /// Share of right answers on the validation samples, where they were held out.
    public var validationAccuracy: Double?
    public var trainSamples: Int
    public var testSamples: Int?
    /// What parts of the model added to the loss over the last steps, by name and before it was weighed; nil where they
    /// added nothing.
    public var auxiliaryLosses: [String: Double]?
    /// Seconds in training steps, over all sessions.
    public var trainingSeconds: Double
    /// The most memory that the process had resident.
    public var peakMemoryBytes: Int
    public var threads: Int
    /// `testConfusion[truth][answer]`.
    public var testConfusion: [[Int]]?
    /// How the test questions of each type were answered, or the validation's where those are held out; nil without
    /// questions.
    public var questions: [QuestionScore]?
    public var fovea: String

    public init(
        recipe: String, seed: Int, steps: Int, skippedSteps: Int = 0, parameters: Int, test: Evaluation?,
        train: Evaluation,
        validation: Evaluation?, trainingSeconds: Double, peakMemoryBytes: Int, threads: Int
    ) {
        self.recipe = recipe
        self.seed = seed
        self.steps = steps
        self.skippedSteps = skippedSteps == 0 ? nil : skippedSteps
        self.parameters = parameters
        testAccuracy = test?.accuracy
        testLoss = test?.loss
        trainAccuracy = train.accuracy
        validationAccuracy = validation?.accuracy
        trainSamples = train.samples
        testSamples = test?.samples
        self.trainingSeconds = trainingSeconds
        self.peakMemoryBytes = peakMemoryBytes
        self.threads = threads
        testConfusion = test?.confusion.counts
        fovea = foveaVersion
    }
}
