import FoveaIO

/// Loss and accuracy over the steps of a run, as a picture that any browser shows.
public struct TrainingCurve: Sendable {
    private let title: String
    private let records: [StepRecord]
    private let testAccuracy: Double?

    /// - Parameters:
    ///   - title: the line above the picture.
    ///   - records: what the run logged, in the order of its steps.
    ///   - testAccuracy: drawn as a mark at the last step; nil for none.
    public init(title: String, records: [StepRecord], testAccuracy: Double? = nil) {
        self.title = title
        self.records = records
        self.testAccuracy = testAccuracy
    }

    /// Writes the picture.
    public func write(to path: String) throws(FileError) { try writeTextAtomically(svg, to: path) }

    private static let (width, height) = (760.0, 300.0)
    private static let (left, top, plotWidth, plotHeight) = (52.0, 44.0, 290.0, 200.0)

    /// The picture: the loss on the left, the accuracy on the right.
    public var svg: String {
        let lastStep = Double(records.last?.step ?? 1)
        let maxLoss = niceCeiling(records.map(\.loss).max() ?? 1)
        let lowest = records.map(\.accuracy).min() ?? 0
        let floor = lowest < 0.6 ? 0 : lowest < 0.8 ? 0.6 : 0.8
        var body = panel(0, "loss", 0, maxLoss, lastStep)
        body += line(0, records.map { (Double($0.step), $0.loss) }, 0, maxLoss, lastStep, "#1f6feb", "training")
        body += panel(1, "accuracy", floor, 1, lastStep)
        body += line(
            1, records.map { (Double($0.step), $0.accuracy) }, floor, 1, lastStep, "#1f6feb", "training batches")
        let validated = records.compactMap { record in
            record.validationAccuracy.map { (Double(record.step), $0) }
        }
        body += line(1, validated, floor, 1, lastStep, "#bf8700", "validation")
        var legend = [("#1f6feb", "training batches")]
        if !validated.isEmpty { legend.append(("#bf8700", "validation")) }
        if let testAccuracy {
            let (x, y) = (position(1, lastStep, lastStep), height(testAccuracy, floor, 1))
            body += "<circle cx=\"\(short(x))\" cy=\"\(short(y))\" r=\"4\" fill=\"#1a7f37\"/>\n"
            legend.append(("#1a7f37", "test \(percent(testAccuracy))"))
        }
        for (row, entry) in legend.enumerated() {
            let (x, y) = (TrainingCurve.left + 358 + 150, TrainingCurve.top + 150 + Double(row) * 16)
            body += "<rect x=\"\(short(x))\" y=\"\(short(y - 8))\" width=\"10\" height=\"8\" fill=\"\(entry.0)\"/>"
            body += "<text x=\"\(short(x + 16))\" y=\"\(short(y))\">\(entry.1)</text>\n"
        }
        return """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(short(TrainingCurve.width)) \(short(TrainingCurve.height))" \
            font-family="system-ui, sans-serif" font-size="11" fill="#24292f">
            <rect width="100%" height="100%" fill="white"/>
            <text x="\(short(TrainingCurve.left))" y="20" font-size="14">\(escaped(title))</text>
            \(body)</svg>

            """
    }

    private func panel(_ index: Int, _ name: String, _ low: Double, _ high: Double, _ lastStep: Double) -> String {
        let (x0, x1) = (position(index, 0, lastStep), position(index, lastStep, lastStep))
        var text = "<text x=\"\(short(x0))\" y=\"\(short(TrainingCurve.top - 8))\" font-weight=\"600\">\(name)</text>\n"
        for tick in 0...4 {
            let value = low + (high - low) * Double(tick) / 4
            let y = height(value, low, high)
            text +=
                "<line x1=\"\(short(x0))\" y1=\"\(short(y))\" x2=\"\(short(x1))\" y2=\"\(short(y))\" stroke=\"#d8dee4\"/>"
            text +=
                "<text x=\"\(short(x0 - 6))\" y=\"\(short(y + 4))\" text-anchor=\"end\">\(index == 0 ? short(value) : percent(value))</text>\n"
        }
        for tick in 0...2 {
            let step = lastStep * Double(tick) / 2
            let x = position(index, step, lastStep)
            text +=
                "<text x=\"\(short(x))\" y=\"\(short(TrainingCurve.top + TrainingCurve.plotHeight + 16))\" text-anchor=\"middle\">\(Int(step))</text>\n"
        }
        let middle = (x0 + x1) / 2
        text +=
            "<text x=\"\(short(middle))\" y=\"\(short(TrainingCurve.top + TrainingCurve.plotHeight + 34))\" text-anchor=\"middle\">step</text>\n"
        return text
    }

    private func line(
        _ index: Int, _ points: [(Double, Double)], _ low: Double, _ high: Double, _ lastStep: Double, _ colour: String,
        _ name: String
    ) -> String {
        guard points.count > 1 else { return "" }
        let path = points.map { "\(short(position(index, $0.0, lastStep))),\(short(height($0.1, low, high)))" }
        return
            "<polyline fill=\"none\" stroke=\"\(colour)\" stroke-width=\"1.5\" points=\"\(path.joined(separator: " "))\">"
            + "<title>\(name)</title></polyline>\n"
    }

    private func position(_ index: Int, _ step: Double, _ lastStep: Double) -> Double {
        TrainingCurve.left + Double(index) * 358 + TrainingCurve.plotWidth * step / max(1, lastStep)
    }

    private func height(_ value: Double, _ low: Double, _ high: Double) -> Double {
        let share = (min(max(value, low), high) - low) / max(1e-12, high - low)
        return TrainingCurve.top + TrainingCurve.plotHeight * (1 - share)
    }

    private func niceCeiling(_ value: Double) -> Double {
        let candidates = [0.1, 0.2, 0.4, 0.8, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10, 20, 40, 80]
        return candidates.first { $0 >= value } ?? value
    }

    private func short(_ value: Double) -> String {
        let rounded = (value * 100).rounded() / 100
        // A loss that went astray may be larger than any Int.
        return Int(exactly: rounded).map(String.init) ?? String(rounded)
    }

    private func percent(_ value: Double) -> String { short((value * 1000).rounded() / 10) + " %" }

    private func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }
}
