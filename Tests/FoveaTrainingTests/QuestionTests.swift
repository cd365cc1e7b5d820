import Foundation
import FoveaData
import FoveaIO
import FoveaNN
import FoveaTensor
import FoveaTraining
import Testing

private let digits: Digits = {
    guard let digits = try? Digits(folder: repository + "/Data/digits") else {
        fatalError("the shipped digits cannot be read")
    }
    return digits
}()

private func task(_ name: String, _ set: LabelledImageSet = digits.train) -> any QuestionTask {
    QuestionTasks.task(name, digits: set)!
}

private func samples(_ name: String, _ count: Int, seed: UInt64 = 0) -> [PictureQuestions] {
    let task = task(name)
    return (0..<count).map { task.sample(RandomKey(seed: seed).folding(UInt64($0))) }
}

/// The box of an object of a picture, found from its pixels.
private func box(_ picture: Picture, _ object: UInt8) -> (rows: ClosedRange<Int>, columns: ClosedRange<Int>)? {
    let places = picture.objects.indices.filter { picture.objects[$0] == object }
    let (rows, columns) = (places.map { $0 / picture.width }, places.map { $0 % picture.width })
    guard let top = rows.min() else { return nil }
    return (top...rows.max()!, columns.min()!...columns.max()!)
}

/// The digits by their pixels: what a box shows is looked up, not taken from whoever drew it.
private let digitsByPixels: [[UInt8]: Int] = {
    var table: [[UInt8]: Int] = [:]
    for set in [digits.train, digits.validation, digits.test] {
        for index in 0..<set.count {
            let grey: [UInt8] = set.image(index).scalars()
            table[grey.map { UInt8(Int($0) * 255 / 16) }] = set.labels[index]
        }
    }
    return table
}()

private func digit(_ picture: Picture, top: Int, left: Int) -> Int? {
    digitsByPixels[
        (0..<8).flatMap { y in (0..<8).map { picture.pixels[(top + y) * picture.width + left + $0] } }]
}

private func digit(_ picture: Picture, _ object: UInt8) -> Int? {
    box(picture, object).flatMap { digit(picture, top: $0.rows.lowerBound, left: $0.columns.lowerBound) }
}

@Suite struct QuestionTests {
    @Test("a sample is a function of its key, and keys differ", arguments: QuestionTasks.names)
    func determinism(_ name: String) {
        let (first, again) = (samples(name, 5), samples(name, 5))
        #expect(first == again)
        #expect(first != samples(name, 5, seed: 1))
        #expect(Set(first.map { $0.pictures.map(\.pixels) }).count == 5)
    }

    /// FNV-1a over pixels, words and answers of ten samples: the same on every machine, and after every change.
    @Test(
        "samples are these, to the bit",
        arguments: zip(
            QuestionTasks.names,
            [
                0xFE5D_A664_BF05_006E, 0x38A8_40EF_F38C_8E6F, 0x482D_239F_78A2_0641, 0x503D_CD3D_07BB_E342,
                0xFB79_F848_F917_84FE,
            ] as [UInt64]))
    func bits(_ name: String, _ want: UInt64) {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        func add(_ bytes: some Sequence<UInt8>) {
            for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        }
        for sample in samples(name, 10) {
            for picture in sample.pictures { add(picture.pixels) }
            for question in sample.questions { add((question.words + [question.answer]).joined(separator: " ").utf8) }
        }
        #expect(hash == want)
    }

    @Test("pictures, types, words, answers and evidence are what the task announces", arguments: QuestionTasks.names)
    func announced(_ name: String) throws {
        let task = task(name)
        let vocabulary = Vocabulary(of: task)
        var counts: Set<Int> = []
        for sample in samples(name, 100) {
            counts.insert(sample.pictures.count)
            #expect(task.pictureCount.contains(sample.pictures.count))
            for picture in sample.pictures {
                #expect((picture.channels, picture.height, picture.width) == task.pictureShape)
                #expect(picture.pixels.count == picture.channels * picture.height * picture.width)
            }
            for question in sample.questions {
                #expect(task.types[question.type].answers.contains(question.answer))
                for word in question.words + [question.answer] { _ = try vocabulary.id(of: word) }
                for evidence in question.evidence {
                    #expect(sample.pictures[evidence.picture].objects.contains(evidence.object), "\(question)")
                }
            }
        }
        #expect(counts == Set(task.pictureCount))
    }

    /// 800 samples: shares are within four standard errors, with at least one independent question a sample.
    @Test("the most frequent answer of each type is right as often as the type says", arguments: QuestionTasks.names)
    func chance(_ name: String) {
        let task = task(name)
        var answers: [[String: Int]] = Array(repeating: [:], count: task.types.count)
        for sample in samples(name, 800) {
            for question in sample.questions { answers[question.type][question.answer, default: 0] += 1 }
        }
        for (type, counts) in zip(task.types, answers) {
            let share = Double(counts.values.max() ?? 0) / Double(counts.values.reduce(0, +))
            #expect(
                abs(share - type.chance) < 4 * (type.chance * (1 - type.chance) / 800).squareRoot(), "\(type.name)")
            #expect(Set(counts.keys) == Set(type.answers), "\(type.name)")
        }
    }

    @Test("digit grids: each answer follows from the pixels")
    func digitGridTruth() {
        for sample in samples("digit-grid", 200) {
            let picture = sample.pictures[0]
            let cells = (0..<9).map { digit(picture, top: $0 / 3 * 8, left: $0 % 3 * 8)! }
            func number(_ word: String) -> Int { Int(word.split(separator: "-").last!)! }
            func cell(_ words: ArraySlice<String>) -> Int { (number(words.first!) - 1) * 3 + number(words.last!) - 1 }
            for question in sample.questions {
                let words = question.words
                let answer: String
                switch words[0] {
                case "digit": answer = "\(cells[cell(words[1...2])])"
                case "count": answer = "\(cells.count { $0 == number(words[1]) })"
                case "parity":
                    let line = number(words[1]) - 1
                    let places =
                        words[1].hasPrefix("row") ? (0..<3).map { line * 3 + $0 } : (0..<3).map { $0 * 3 + line }
                    answer = places.reduce(0) { $0 + cells[$1] } % 2 == 0 ? "even" : "odd"
                default: answer = cells[cell(words[1...2])] == cells[cell(words[3...4])] ? "yes" : "no"
                }
                #expect(question.answer == answer, "\(words)")
            }
            #expect(sample.questions[4].evidence == [ObjectReference(picture: 0, object: 5)])
            #expect(
                sample.evidence(of: sample.questions[4], patchSize: 8)[0] == (0..<9).map { $0 == 4 })
        }
    }

    @Test("grids of 2 and 4 rows: counts are asked for equally often")
    func otherGrids() {
        for side in [2, 4] {
            let grid = DigitGrid(side: side, bank: DigitBank(digits.train))
            var counts: [String: Int] = [:]
            for index in 0..<500 {
                for question in grid.sample(RandomKey(seed: 7).folding(UInt64(index))).questions
                where question.type == 1 { counts[question.answer, default: 0] += 1 }
            }
            let chance = grid.types[1].chance
            #expect(counts.count == Int((1 / chance).rounded()))
            // Four standard errors of a share of 1,000.
            let error = 4 * (chance * (1 - chance) / 1000).squareRoot()
            #expect(counts.values.allSatisfy { abs(Double($0) / 1000 - chance) < error }, "\(side): \(counts)")
        }
    }

    @Test("scenes: each answer follows from the pixels")
    func sceneTruth() throws {
        let colours = ["red", "green", "blue", "orange", "grey", "yellow"]
        for sample in samples("scenes", 100) {
            let picture = sample.pictures[0]
            let objects = (1...6).map { number -> (row: Int, column: Int, shape: String) in
                let box = box(picture, UInt8(number))!
                let area = picture.objects.count { $0 == UInt8(number) }
                #expect(box.rows.count == 11 && box.columns.count == 11)
                return (box.rows.lowerBound + 5, box.columns.lowerBound + 5, area == 121 ? "square" : "disc")
            }
            #expect(sample.questions.count == 36)
            for question in sample.questions {
                let object = objects[colours.firstIndex(of: question.words[1])!]
                func distance(_ other: (row: Int, column: Int, shape: String)) -> Int {
                    (other.row - object.row) * (other.row - object.row)
                        + (other.column - object.column) * (other.column - object.column)
                }
                let byDistance = objects.sorted { distance($0) < distance($1) }
                let answer =
                    switch question.words[0] {
                    case "shape": object.shape
                    case "left": object.column < 37 ? "yes" : "no"
                    case "upper": object.row < 37 ? "yes" : "no"
                    case "nearest": byDistance[1].shape
                    case "furthest": byDistance[5].shape
                    default: "\(objects.count { $0.shape == object.shape })"
                    }
                #expect(question.answer == answer, "\(question.words)")
            }
        }
    }

    @Test("scenes: the shape that most of the others have is the nearest's with 11/16, no more")
    func sceneShortcut() {
        var (right, asked) = (0, 0)
        for sample in samples("scenes", 800) {
            let shapes = sample.questions.filter { $0.type == 0 }.map(\.answer)
            for (index, question) in sample.questions.filter({ $0.type == 3 }).enumerated() {
                let discs = shapes.indices.count { $0 != index && shapes[$0] == "disc" }
                right += (discs >= 3 ? "disc" : "square") == question.answer ? 1 : 0
                asked += 1
            }
        }
        #expect(abs(Double(right) / Double(asked) - 0.6875) < 0.02)
    }

    @Test("tiny: the glyph stands in its quarter, five bright pixels of nine")
    func tinyTruth() {
        var shapes: [String: Set<[Bool]>] = [:]
        for sample in samples("tiny", 100) {
            let picture = sample.pictures[0]
            let box = box(picture, 1)!
            #expect(box.rows.count == 3 && box.columns.count == 3)
            let marks: [Bool] = box.rows.flatMap { y in box.columns.map { picture.pixels[y * 96 + $0] == 255 } }
            #expect(marks.count { $0 } == 5)
            shapes[sample.questions[0].answer, default: []].insert(marks)
            let quarter =
                (box.rows.upperBound < 48 ? "upper" : "lower") + (box.columns.upperBound < 48 ? "-left" : "-right")
            #expect(sample.questions[1].answer == quarter)
            #expect(picture.pixels.count { $0 == 255 } == 5)
        }
        #expect(shapes.count == 8 && shapes.values.allSatisfy { $0.count == 1 })
        #expect(Set(shapes.values.map { $0.first! }).count == 8)
    }

    @Test("panels: each answer follows from the pixels")
    func panelTruth() {
        for sample in samples("panels", 200) {
            let shown = sample.pictures.map { digit($0, 1)! }
            func place(_ word: String) -> Int { Int(word.split(separator: "-").last!)! - 1 }
            for question in sample.questions {
                let words = question.words
                switch words[0] {
                case "which":
                    #expect(shown.indices.filter { "\(shown[$0])" == words[1] } == [place(question.answer)])
                case "shows": #expect("\(shown[place(words[1])])" == question.answer)
                default:
                    #expect(place(words[1]) != place(words[2]))
                    #expect((shown[place(words[1])] == shown[place(words[2])] ? "yes" : "no") == question.answer)
                }
            }
        }
    }

    @Test("clips: each answer follows from the frames")
    func clipTruth() {
        for sample in samples("clips", 100) {
            let frames = sample.pictures
            var movers: [Int: (start: Int, way: String)] = [:]
            for object in UInt8(1)...3 {
                let boxes = frames.map { box($0, object) }
                let start = boxes.firstIndex { $0 != nil }!
                let (first, last) = (boxes[start]!, boxes.last!!)
                let down = last.rows.lowerBound - first.rows.lowerBound
                let right = last.columns.lowerBound - first.columns.lowerBound
                #expect(abs(down) + abs(right) == frames.count - 1 - start && down * right == 0)
                // Nothing hides it on the way.
                #expect(boxes[start...].allSatisfy { $0!.rows.count == 8 && $0!.columns.count == 8 })
                let way = down < 0 ? "up" : down > 0 ? "down" : right < 0 ? "left" : "right"
                movers[digit(frames[start], object)!] = (start, way)
            }
            #expect(movers.count == 3)
            for question in sample.questions {
                let named = question.words.dropFirst().map { movers[Int($0)!]! }
                switch question.words[0] {
                case "direction": #expect(named[0].way == question.answer)
                case "before": #expect((named[0].start < named[1].start ? "yes" : "no") == question.answer)
                default:
                    #expect(movers.min { $0.value.start < $1.value.start }!.key == Int(question.answer)!)
                }
            }
        }
    }

    @Test("test pictures show test digits alone")
    func separateDigits() {
        func pixels(_ set: LabelledImageSet) -> Set<[UInt8]> {
            Set(
                (0..<set.count).map { index in
                    set.image(index).scalars(as: UInt8.self).map { UInt8(Int($0) * 255 / 16) }
                })
        }
        let (own, others) = (pixels(digits.test), pixels(digits.train).union(pixels(digits.validation)))
        let set = QuestionSet("test", of: task("digit-grid", digits.test))
        for index in 0..<50 {
            let picture = set.sample(index).pictures[0]
            for cell in 0..<9 {
                let shown = (0..<8).flatMap { y in
                    (0..<8).map { picture.pixels[(cell / 3 * 8 + y) * 24 + cell % 3 * 8 + $0] }
                }
                #expect(own.contains(shown) && !others.contains(shown))
            }
        }
    }

    @Test(
        "parts are disjoint, and training with augmentation never sees a sample twice", arguments: ["scenes", "tiny"])
    func separateParts(_ name: String) {
        let parts = ["train", "validation", "test"].map { QuestionSet($0, of: task(name)) }
        var seen: Set<[UInt8]> = []
        for part in parts { for index in 0..<50 { seen.insert(part.sample(index).pictures[0].pixels) } }
        let key = RandomKey(seed: 5)
        for step in 0..<5 {
            for index in 0..<10 {
                seen.insert(
                    parts[0].sample(index, augmentation: key.folding(UInt64(step))).pictures[0].pixels)
            }
        }
        #expect(seen.count == 200)
        #expect(parts.map(\.count) == [8192, 500, 1000])
    }
}

@Suite struct PackingTests {
    @Test("a batch holds what its samples say, padded", arguments: QuestionTasks.names)
    func packing(_ name: String) throws {
        let set = QuestionSet("train", of: task(name))
        let samples = (0..<4).map { set.sample($0) }
        let batch = set.batch(of: [0, 1, 2, 3], augmentation: nil)
        let length = batch.ids.shape[1]
        let (ids, owners) = (batch.ids.scalars(as: Int64.self), batch.questions.scalars(as: Int64.self))
        let (places, labels) = (batch.answerPlaces.scalars(as: Int64.self), batch.labels.scalars(as: Int64.self))
        let (positions, types) = (batch.positions.scalars(as: Int64.self), batch.types.scalars(as: Int64.self))
        let slots = batch.labels.shape[1]
        for (row, sample) in samples.enumerated() {
            #expect(labels[row * slots..<(row + 1) * slots].count { $0 >= 0 } == sample.questions.count)
            for (number, question) in sample.questions.enumerated() {
                let own = (0..<length).filter { owners[row * length + $0] == Int64(number) }
                #expect(
                    set.vocabulary.decode(own.map { Int(ids[row * length + $0]) })
                        == question.words.joined(separator: " "))
                #expect(own.map { Int(positions[row * length + $0]) } == Array(question.words.indices))
                let slot = row * slots + number
                #expect(Int(places[slot]) == own.last && types[slot] == Int64(question.type))
                #expect(set.vocabulary.words[Int(labels[slot])] == question.answer)
            }
            for (number, picture) in sample.pictures.enumerated() {
                let packed = batch.pictures.selecting(axis: 0, Tensor([Int64(row)]))
                    .selecting(axis: 1, Tensor([Int64(number)])).scalars(as: Float.self)
                #expect(packed == picture.pixels.map { Float($0) / 255 })
            }
            if let mask = batch.pictureMask {
                let count = batch.pictures.shape[1]
                #expect(
                    mask.scalars(as: Bool.self)[row * count..<(row + 1) * count].count { $0 } == sample.pictures.count)
            }
        }
    }

    @Test("a token sees its own question up to itself, nothing else")
    func mask() {
        let set = QuestionSet("train", of: task("digit-grid"))
        let batch = set.batch(of: [0, 1], augmentation: nil)
        let length = batch.ids.shape[1]
        let (mask, owners) = (batch.textMask.scalars(as: Bool.self), batch.questions.scalars(as: Int64.self))
        for row in 0..<2 {
            for a in 0..<length {
                for b in 0..<length {
                    #expect(
                        mask[(row * length + a) * length + b]
                            == (owners[row * length + a] == owners[row * length + b] && b <= a))
                }
            }
        }
    }

    @Test("types can be chosen; blank pictures are black, the questions the same")
    func choices() {
        let set = QuestionSet("test", of: task("digit-grid"), types: ["digit"])
        #expect(set.sample(0).questions.count == 9 && set.sample(0).questions.allSatisfy { $0.type == 0 })
        var blank = set
        blank.isBlank = true
        let (seen, unseen) = (set.batch(of: [0], augmentation: nil), blank.batch(of: [0], augmentation: nil))
        #expect(unseen.pictures.scalars(as: Float.self).allSatisfy { $0 == 0 })
        #expect(unseen.ids.scalars(as: Int64.self) == seen.ids.scalars(as: Int64.self))
        #expect(unseen.labels.scalars(as: Int64.self) == seen.labels.scalars(as: Int64.self))
    }
}

@Suite struct VocabularyTests {
    private let vocabulary = Vocabulary(["what", "shape", "what", "red"])

    @Test("words are ids in their order, behind the padding, and back")
    func words() throws {
        #expect(vocabulary.words == [Vocabulary.padding, "what", "shape", "red"])
        #expect(try vocabulary.encode(" what  red shape") == [1, 3, 2])
        #expect(vocabulary.decode([0, 1, 3, 0]) == "what red")
        #expect(vocabulary.decode([4]) == nil && vocabulary.decode([-1]) == nil)
    }

    @Test("an unknown word is named, the padding is no word")
    func unknown() {
        for word in ["green", Vocabulary.padding] {
            let error = #expect(throws: UnknownWordError.self) { try vocabulary.encode("what " + word) }
            #expect(error?.description == "the word \"\(word)\" is not among the 3 words of the vocabulary")
        }
    }

    @Test("a saved vocabulary reads back; other files are refused by name")
    func files() throws {
        let path = NSTemporaryDirectory() + "vocabulary-\(UUID().uuidString).json"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try vocabulary.save(to: path)
        #expect(try Vocabulary(reading: path) == vocabulary)
        for text in ["", "{}", "[1]", "[\"a\"]", "[\"<pad>\", \"a\", \"a\"]", "[]"] {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
            let error = #expect(throws: FileError.self) { try Vocabulary(reading: path) }
            #expect(error?.path == path, "\(text)")
        }
        #expect(throws: FileError.self) { try Vocabulary(reading: path + ".none") }
    }
}
