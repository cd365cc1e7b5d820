/// Every task of questions about pictures, by name.
public enum QuestionTasks {
    /// As recipes and `fovea data` call them.
    public static let names = ["digit-grid", "scenes", "tiny", "panels", "clips"]
    /// Those that show digits.
    public static let withDigits: Set = ["digit-grid", "panels", "clips"]

    /// Why a task cannot show these digits, in a few words; nil when it can.
    public static func problem(_ name: String, with digits: LabelledImageSet) -> String? {
        guard withDigits.contains(name) else { return nil }
        if let problem = DigitBank.problem(with: digits) { return "\(name): \(problem)" }
        let size = max(digits.imageSize.height, digits.imageSize.width)
        let limit = name == "panels" ? 20 : name == "clips" ? 10 : Int.max
        return size <= limit ? nil : "\(name): digits of \(size) pixels are larger than \(limit)"
    }

    /// A task; nil for a name that there is not, and for a task with digits without some.
    ///
    /// - Parameters:
    ///   - name: one of `names`.
    ///   - digits: what the tasks with digits show: those of one part, so that no digit is seen in two. Others need none.
    public static func task(_ name: String, digits: LabelledImageSet?) -> (any QuestionTask)? {
        switch name {
        case "digit-grid": digits.map { DigitGrid(bank: DigitBank($0)) }
        case "scenes": ShapeScenes()
        case "tiny": TinyGlyphs()
        case "panels": digits.map { DigitPanels(bank: DigitBank($0)) }
        case "clips": digits.map { DigitClips(bank: DigitBank($0)) }
        default: nil
        }
    }
}
