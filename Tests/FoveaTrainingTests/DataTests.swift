import Foundation
import FoveaData
import FoveaIO
import FoveaTensor
import FoveaTraining
import Testing

@Suite struct BatchOrderTests {
    private let order = BatchOrder(count: 23, batchSize: 5, key: RandomKey(seed: 1))

    private func epoch(_ epoch: Int, of order: BatchOrder) -> [Int] {
        (0..<order.batchesPerEpoch).flatMap { order.indices(at: epoch * order.batchesPerEpoch + $0) }
    }

    @Test("the batches of an epoch are disjoint and of full size")
    func disjoint() {
        #expect(order.batchesPerEpoch == 4)
        for number in 0..<6 {
            let samples = epoch(number, of: order)
            #expect(samples.count == 20 && Set(samples).count == 20)
            #expect(samples.allSatisfy { (0..<23).contains($0) })
        }
    }

    @Test("an epoch that the batches fill is a permutation")
    func permutation() {
        let order = BatchOrder(count: 24, batchSize: 6, key: RandomKey(seed: 1))
        for number in 0..<4 { #expect(epoch(number, of: order).sorted() == Array(0..<24)) }
    }

    @Test("epochs differ, and over many of them every sample has its turn")
    func epochs() {
        #expect(epoch(0, of: order) != epoch(1, of: order))
        #expect(Set((0..<8).flatMap { epoch($0, of: order) }).count == 23)
    }

    @Test("indices are a function of key and step, asked in any order")
    func deterministic() {
        let same = BatchOrder(count: 23, batchSize: 5, key: RandomKey(seed: 1))
        let forward = (0..<30).map { order.indices(at: $0) }
        let backward = (0..<30).reversed().map { same.indices(at: $0) }
        #expect(forward == backward.reversed())
        #expect(forward[3] != BatchOrder(count: 23, batchSize: 5, key: RandomKey(seed: 2)).indices(at: 3))
    }

    @Test("each step has augmentation numbers of its own")
    func augmentation() {
        #expect(Set((0..<50).map { order.augmentation(at: $0) }).count == 50)
        #expect(
            order.augmentation(at: 7) == BatchOrder(count: 9, batchSize: 2, key: RandomKey(seed: 1)).augmentation(at: 7)
        )
    }

    @Test("a batch is no larger than the dataset")
    func largeBatch() {
        let order = BatchOrder(count: 3, batchSize: 10, key: RandomKey(seed: 1))
        #expect(order.batchSize == 3 && order.batchesPerEpoch == 1)
        #expect(order.indices(at: 4).sorted() == [0, 1, 2])
    }
}

@Suite struct DatasetTests {
    @Test("evaluation goes through all samples in order, the last batch smaller")
    func inOrder() {
        let pictures = TinyPictures(count: 10)
        let batches = Array(pictures.batches(of: 4))
        #expect(batches.map(\.labels.count) == [4, 4, 2])
        #expect(batches.flatMap(\.labels.doubles) == (0..<10).map { Double($0 % 3) })
        #expect(batches[2].images.bytes() == pictures.batch(of: [8, 9], augmentation: nil).images.bytes())
    }

    @Test("training batches are endless, shuffled by the seed, and augmented when asked")
    func shuffled() {
        func first(_ seed: UInt64, augmenting: Bool = false) -> [[UInt8]] {
            TinyPictures(count: 10).batches(of: 4, seed: seed, augmenting: augmenting).prefix(7).map {
                $0.images.bytes()
            }
        }
        #expect(first(1).count == 7)
        #expect(first(1) == first(1) && first(1, augmenting: true) == first(1, augmenting: true))
        #expect(first(1) != first(2))
        #expect(first(1) != first(1, augmenting: true))
    }
}

@Suite struct LabelledImageSetTests {
    /// Writes pictures and labels as IDX files and reads them as a set.
    private func set(
        _ images: Tensor, _ labels: Tensor, maximum: Int = 16, _ folder: String
    ) throws -> LabelledImageSet {
        try writeIDX(images, to: folder + "/images")
        try writeIDX(labels, to: folder + "/labels")
        return try LabelledImageSet(images: folder + "/images", labels: folder + "/labels", maximum: maximum)
    }

    /// Two pictures of 3 × 4 pixels, no pixel zero and no two in a picture alike.
    private let images = Tensor((0..<24).map(LabelledImageSetTests.pixel), shape: [2, 3, 4])
    private let labels = Tensor([UInt8(3), 1])

    private static func pixel(_ index: Int) -> UInt8 { UInt8(index % 12 + 1 + index / 12) }

    @Test("pictures are scaled so that the maximum is 1")
    func maximum() throws {
        try withTemporaryFolder { folder in
            let set = try set(images, labels, maximum: 16, folder)
            #expect(set.count == 2 && set.classes == 4 && set.labels == [3, 1])
            #expect(set.imageSize == (3, 4))
            let batch = set.batch(of: [1, 0], augmentation: nil)
            #expect(batch.images.shape == [2, 1, 3, 4] && batch.images.dtype == .float32)
            #expect(batch.labels.scalars(as: Int64.self) == [1, 3])
            let want = (Array(12..<24) + Array(0..<12)).map { Double(Self.pixel($0)) / 16 }
            #expect(difference(batch.images.doubles, want) < 1e-7)
            #expect(set.image(1).bytes() == images[1].bytes())
        }
    }

    @Test("without augmentation, and without a shift, a batch is what the file holds")
    func unchanged() throws {
        try withTemporaryFolder { folder in
            var set = try set(images, labels, folder)
            let plain = set.batch(of: [0, 1], augmentation: nil).images.bytes()
            #expect(set.batch(of: [0, 1], augmentation: RandomKey(seed: 1)).images.bytes() == plain)
            set.maxShift = 2
            #expect(set.batch(of: [0, 1], augmentation: nil).images.bytes() == plain)
        }
    }

    @Test("shifts move the content and fill with zeros, every way up to the largest", arguments: [1, 2])
    func shifts(maxShift: Int) throws {
        try withTemporaryFolder { folder in
            var set = try set(images, labels, folder)
            set.maxShift = maxShift
            let indices = (0..<400).map { $0 % 2 }
            let key = RandomKey(seed: 5)
            let batch = set.batch(of: indices, augmentation: key)
            #expect(batch.images.bytes() == set.batch(of: indices, augmentation: key).images.bytes())
            #expect(batch.labels.scalars(as: Int64.self) == indices.map { $0 == 0 ? 3 : 1 })
            let values = batch.images.doubles
            let originals = set.batch(of: [0, 1], augmentation: nil).images.doubles
            var seen: Set<[Int]> = []
            for (position, index) in indices.enumerated() {
                let found = Array(values[position * 12..<(position + 1) * 12])
                let range = -maxShift...maxShift
                let shift = range.lazy.flatMap { down in range.lazy.map { [down, $0] } }.first { shift in
                    (0..<12).allSatisfy { pixel in
                        let (row, column) = (pixel / 4 - shift[0], pixel % 4 - shift[1])
                        let inside = (0..<3).contains(row) && (0..<4).contains(column)
                        return found[pixel] == (inside ? originals[index * 12 + row * 4 + column] : 0)
                    }
                }
                if let shift { seen.insert(shift) }
                #expect(shift != nil, "picture \(position) is no shift of its original")
            }
            #expect(seen.count == (2 * maxShift + 1) * (2 * maxShift + 1))
        }
    }

    @Test("a shift beyond the edge leaves nothing, and nothing breaks")
    func farShift() throws {
        try withTemporaryFolder { folder in
            var set = try set(images, labels, folder)
            set.maxShift = 9
            let values = set.batch(of: Array(repeating: 0, count: 200), augmentation: RandomKey(seed: 5)).images.doubles
            #expect(values.count == 2_400 && values.contains(0))
        }
    }

    @Test("joined sets are the one and then the other")
    func joined() throws {
        try withTemporaryFolder { folder in
            let set = try set(images, labels, folder)
            let both = set.joined(with: set)
            #expect(both.labels == [3, 1, 3, 1])
            #expect(both.image(3).bytes() == set.image(1).bytes())
        }
    }

    @Test("files that do not make a set are errors that name file and numbers")
    func errors() throws {
        try withTemporaryFolder { folder in
            func refused(_ images: Tensor, _ labels: Tensor, maximum: Int = 16, _ parts: String...) throws {
                let error = try #require(throws: FileError.self, "\(parts)") {
                    _ = try set(images, labels, maximum: maximum, folder)
                }
                for part in parts { #expect(error.description.contains(part), "\(error)") }
                #expect(!error.description.contains("\n"))
            }
            try refused(images, Tensor([UInt8(1), 2, 3]), "labels", "3 labels", "2 images")
            try refused(images, labels, maximum: 12, "images", "13", "12")
            try refused(images.reshaped(to: [2, 12]), labels, "images", "[2, 12]")
            try refused(images.cast(to: .int32), labels, "images", "int32")
            try refused(images, labels.reshaped(to: [2, 1]), "labels", "[2, 1]")
            try refused(images, labels.cast(to: .float32), "labels", "float32")
            // The brightest pixel may be the maximum itself.
            #expect(
                try set(images, labels, maximum: 13, folder).batch(of: [1], augmentation: nil).images.doubles.max() == 1
            )
        }
    }
}

@Suite("the shipped digits") struct DigitsTests {
    private let digits: Digits

    init() throws { digits = try Digits(folder: repository + "/Data/digits") }

    @Test("1,147 to train on, 200 to choose by, 450 to look at once")
    func sizes() {
        #expect(digits.train.count == 1_147 && digits.validation.count == 200 && digits.test.count == 450)
        for part in [digits.train, digits.validation, digits.test] {
            #expect(part.imageSize == (8, 8) && part.classes == 10 && part.maximum == 16)
        }
    }

    @Test("every class has its share in each part, within one sample")
    func stratified() {
        func counts(_ set: LabelledImageSet) -> [Int] { (0..<10).map { label in set.labels.count { $0 == label } } }
        let parts = [digits.train, digits.validation, digits.test]
        let whole = (0..<10).map { label in parts.reduce(0) { $0 + counts($1)[label] } }
        // The counts of the test part of the UCI set.
        #expect(whole == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
        for part in parts {
            for (label, count) in counts(part).enumerated() {
                let share = Double(whole[label]) * Double(part.count) / 1_797
                #expect(abs(Double(count) - share) <= 1, "\(count) of class \(label), its share is \(share)")
            }
        }
    }

    @Test("no picture is in two parts")
    func disjoint() {
        func pictures(_ set: LabelledImageSet) -> Set<[UInt8]> { Set((0..<set.count).map { set.image($0).bytes() }) }
        let (train, validation, test) = (pictures(digits.train), pictures(digits.validation), pictures(digits.test))
        #expect(train.isDisjoint(with: test) && train.isDisjoint(with: validation) && validation.isDisjoint(with: test))
    }

    @Test("a folder without digits is an error, and parts of different sizes are")
    func errors() throws {
        try withTemporaryFolder { folder in
            #expect(throws: FileError.self) { _ = try Digits(folder: folder) }
            for name in names(repository + "/Data/digits") where name.hasSuffix("ubyte") {
                try FileManager.default.copyItem(
                    atPath: repository + "/Data/digits/" + name, toPath: folder + "/" + name)
            }
            #expect(try Digits(folder: folder).train.count == 1_147)
            try writeIDX(
                Tensor(Array(repeating: UInt8(1), count: 200 * 9), shape: [200, 3, 3]),
                to: folder + "/validation-images-idx3-ubyte")
            let error = try #require(throws: FileError.self) { _ = try Digits(folder: folder) }
            #expect(error.description.contains("different sizes"))
        }
    }
}
