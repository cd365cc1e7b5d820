import FoveaData
import FoveaTensor
import FoveaTraining
import Testing

@Suite struct DigitScenesTests {
    private let digits: Digits

    init() throws { digits = try Digits(folder: repository + "/Data/digits") }

    private func scenes(
        _ options: DigitScenes.Options = .init(), count: Int = 40, of set: LabelledImageSet? = nil
    ) -> DigitScenes {
        DigitScenes(of: set ?? digits.test, count: count, options: options, key: RandomKey(seed: 3))
    }

    /// Picture `index` of a batch as rows of grey values, 0 … 16.
    private func picture(_ batch: LabelledImages, _ index: Int) -> [[Int]] {
        let size = batch.images.shape[3]
        let values: [Float] = batch.images[index].contiguous().scalars()
        return (0..<size).map { row in (0..<size).map { Int((values[row * size + $0] * 16).rounded()) } }
    }

    /// The grey values of each digit of a set, row by row.
    private func glyphs(_ set: LabelledImageSet) -> [[[Int]]] {
        (0..<set.count).map { index in
            let pixels = set.image(index).scalars(as: UInt8.self).map(Int.init)
            return (0..<8).map { Array(pixels[$0 * 8..<$0 * 8 + 8]) }
        }
    }

    /// The classes of the digits of a set that stand somewhere inside a cell, each pixel as it is.
    private func found(
        _ picture: [[Int]], _ cell: (row: Int, column: Int), side: Int, _ set: [[[Int]]], _ labels: [Int]
    )
        -> Set<Int>
    {
        var classes: Set<Int> = []
        for row in cell.row...cell.row + side - 8 {
            for column in cell.column...cell.column + side - 8 {
                for (index, glyph) in set.enumerated()
                where glyph.indices.allSatisfy({ y in
                    glyph[y].indices.allSatisfy { picture[row + y][column + $0] == glyph[y][$0] }
                }) {
                    classes.insert(labels[index])
                }
            }
        }
        return classes
    }

    @Test("each cell's answer is the digit of the set that stands whole inside it, or none")
    func labels() {
        let batch = scenes().batch(of: Array(0..<12), augmentation: nil)
        #expect(batch.images.shape == [12, 1, 32, 32] && batch.labels.shape == [12, 4])
        let glyphs = glyphs(digits.test)
        for index in 0..<12 {
            let picture = picture(batch, index)
            let labels = batch.labels[index].scalars(as: Int64.self).map(Int.init)
            #expect(labels.count { $0 != 10 } == 3)
            for (position, label) in labels.enumerated() {
                let cell = (row: position / 2 * 16, column: position % 2 * 16)
                let classes = found(picture, cell, side: 16, glyphs, digits.test.labels)
                #expect(classes == (label == 10 ? [] : [label]), "scene \(index), cell \(position)")
            }
        }
    }

    @Test("scenes of the test part show test digits only, whole or in pieces")
    func testDigitsOnly() {
        let batch = DigitScenes.part("test", of: digits.test).batch(of: Array(0..<6), augmentation: nil)
        let trained = glyphs(digits.train)
        for index in 0..<6 {
            for cell in [(0, 0), (0, 16), (16, 0), (16, 16)] {
                #expect(found(picture(batch, index), cell, side: 16, trained, digits.train.labels).isEmpty)
            }
        }
    }

    @Test("the same seed gives the same bits: this sum was written down")
    func reproducible() {
        let batch = scenes().batch(of: Array(0..<40), augmentation: nil)
        // FNV-1a over the grey values and the labels, from whole numbers alone.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func add(_ byte: Int) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        for index in 0..<40 {
            for value in picture(batch, index).joined() { add(value) }
        }
        for label in batch.labels.scalars(as: Int64.self) { add(Int(label)) }
        #expect(hash == 7_333_873_318_626_337_005)
        // Alone, in any order, on any thread: a scene is a function of its index.
        let alone = scenes().batch(of: [7], augmentation: nil)
        #expect(alone.images.bytes() == batch.images.sliced(axis: 0, 7..<8).contiguous().bytes())
        #expect(alone.labels.bytes() == batch.labels.sliced(axis: 0, 7..<8).contiguous().bytes())
    }

    @Test("scenes differ, and augmentation draws others")
    func different() {
        let scenes = scenes()
        let batch = scenes.batch(of: Array(0..<40), augmentation: nil)
        let pictures = (0..<40).map { picture(batch, $0) }
        #expect(Set(pictures).count == 40)
        let other = scenes.batch(of: [0, 1], augmentation: RandomKey(seed: 9))
        #expect(picture(other, 0) != pictures[0] && picture(other, 1) != pictures[1])
        let same = scenes.batch(of: [0, 1], augmentation: RandomKey(seed: 9))
        #expect(same.images.bytes() == other.images.bytes())
    }

    @Test("digits come to every place of every cell, and every cell is empty now and then")
    func places() {
        let batch = scenes(.init(clutter: 0), count: 400).batch(of: Array(0..<400), augmentation: nil)
        var empty = [0, 0, 0, 0]
        var (rows, columns): (Set<Int>, Set<Int>) = ([], [])
        for index in 0..<400 {
            let labels = batch.labels[index].scalars(as: Int64.self)
            for (position, label) in labels.enumerated() where label == 10 { empty[position] += 1 }
            let picture = picture(batch, index)
            rows.formUnion((0..<32).filter { row in picture[row].contains { $0 > 0 } })
            columns.formUnion((0..<32).filter { column in picture.contains { $0[column] > 0 } })
        }
        #expect(empty.allSatisfy { $0 > 60 } && empty.reduce(0, +) == 400)
        #expect(rows.count == 32 && columns.count >= 30)
    }

    @Test("clutter covers no digit, and is there")
    func clutter() {
        // With the same draws but for the clutter, the digits stay to the pixel.
        let (without, with) = (scenes(.init(clutter: 0)), scenes(.init(clutter: 6)))
        let (a, b) = (without.batch(of: [0, 1, 2], augmentation: nil), with.batch(of: [0, 1, 2], augmentation: nil))
        #expect(a.labels.bytes() == b.labels.bytes())
        for index in 0..<3 {
            let (clean, cluttered) = (picture(a, index), picture(b, index))
            var more = 0
            for (row, values) in clean.enumerated() {
                for (column, value) in values.enumerated() {
                    if value > 0 { #expect(cluttered[row][column] == value) }
                    if value == 0, cluttered[row][column] > 0 { more += 1 }
                }
            }
            #expect(more > 10, "scene \(index)")
        }
    }

    @Test("sizes that do not fit are told in words, and trap in code")
    func sizes() async {
        func problem(_ options: DigitScenes.Options) -> String? { options.problem(digitHeight: 8, digitWidth: 8) }
        #expect(problem(.init()) == nil && problem(.init(size: 24, cells: 3, digits: 9, clutter: 0)) == nil)
        #expect(problem(.init(size: 30, cells: 4))?.contains("30 pixels do not divide into 4 cells") == true)
        #expect(problem(.init(size: 14))?.contains("cells of 7 pixels are too small for digits of 8 × 8") == true)
        #expect(problem(.init(digits: 5))?.contains("4 cells hold from 1 to 4 digits, not 5") == true)
        await #expect(processExitsWith: .failure) {
            let digits = try Digits(folder: repository + "/Data/digits")
            _ = DigitScenes(of: digits.test, count: 1, options: .init(size: 14), key: RandomKey(seed: 0))
        }
    }

    @Test("a part has its own scenes, and its first ones are the same")
    func parts() {
        let test = DigitScenes.part("test", of: digits.test)
        #expect(test.count == 2000 && test.first(5).count == 5 && test.classes == 11)
        let (whole, few) = (test.batch(of: [4], augmentation: nil), test.first(5).batch(of: [4], augmentation: nil))
        #expect(whole.images.bytes() == few.images.bytes())
        let other = DigitScenes.part("validation", of: digits.test).batch(of: [4], augmentation: nil)
        #expect(other.images.bytes() != whole.images.bytes())
    }
}
