import FoveaTestSupport
import Testing

@testable import FoveaTensor

@Suite("Storage and types")
struct StorageTests {
    // MARK: The pool

    @Test("size classes hold the request, grow with it and waste little")
    func sizeClasses() {
        var requests = Array(0...20_000)
        for power in 14..<46 {
            for offset in [-65, -64, -63, -1, 0, 1, 63, 64, 65] { requests.append((1 << power) + offset) }
            for quarter in 1...3 {
                for offset in -1...1 { requests.append((1 << power) + quarter << (power - 2) + offset) }
            }
        }
        requests.sort()
        var last = (index: 0, size: 0)
        for bytes in requests {
            let (index, size) = StoragePool.sizeClass(bytes)
            #expect(size >= bytes, "\(bytes) bytes do not fit \(size)")
            #expect(size % StoragePool.alignment == 0, "\(bytes) bytes")
            #expect((0..<StoragePool.classCount).contains(index), "\(bytes) bytes")
            if bytes > 256 { #expect((size - bytes) * 4 <= bytes, "\(bytes) bytes waste \(size - bytes)") }
            #expect(size >= last.size && index >= last.index, "\(bytes) bytes: the classes go down")
            // One list of free buffers must never hold two sizes.
            #expect((size == last.size) == (index == last.index) || last.size == 0, "\(bytes) bytes")
            last = (index, size)
        }
    }

    @Test("buffers are aligned for the widest vectors")
    func alignment() {
        for count in [1, 3, 100, 1_000, 100_000] {
            let tensor = Tensor(uninitialized: [count], .uint8)
            #expect(UInt(bitPattern: tensor.storage.pointer) % 64 == 0)
        }
    }

    // MARK: Values

    @Test("tensors are values: copies are independent")
    func values() {
        let x = Tensor([1.0, 2, 3])
        var copy = x
        copy += Tensor([1.0, 1, 1])
        #expect(x.scalars(as: Double.self) == [1, 2, 3])
        #expect(copy.scalars(as: Double.self) == [2, 3, 4])
        var view = x.sliced(axis: 0, 1..<3)
        view += Tensor([1.0, 1])
        #expect(x.scalars(as: Double.self) == [1, 2, 3])
        #expect(view.scalars(as: Double.self) == [3, 4])
        copy += copy
        #expect(copy.scalars(as: Double.self) == [4, 6, 8])
    }

    @Test("in-place sums keep the rules of the sum")
    func inPlace() {
        // Broadcasting cannot happen in place, nor can a view be written through.
        var x = Tensor([1.0, 2])
        x += Tensor([10.0, 20, 30, 40], shape: [2, 2])
        expectClose(x, Tensor([11.0, 22, 31, 42], shape: [2, 2]), tolerance: 0)
        var wide = Tensor([1.0]).expanded(to: [3])
        wide += Tensor([1.0, 2, 3])
        #expect(wide.scalars(as: Double.self) == [2, 3, 4])
        // Long enough for several chunks.
        var long = Tensor.ones([70_001])
        long += Tensor.ones([70_001]) * 2
        expectSameBits(long, .full([70_001], 3))
    }

    @Test("elements can be made and read in every Swift type")
    func scalarTypes() {
        #expect(Tensor([Float(1.5), 2]).scalars(as: Float.self) == [1.5, 2])
        #expect(Tensor([1.5, 2]).scalars(as: Double.self) == [1.5, 2])
        #expect(Tensor([Int64.max, .min]).scalars(as: Int64.self) == [.max, .min])
        #expect(Tensor([Int32.max, .min]).scalars(as: Int32.self) == [.max, .min])
        #expect(Tensor([UInt8.max, 0]).scalars(as: UInt8.self) == [.max, 0])
        #expect(Tensor([true, false]).scalars(as: Bool.self) == [true, false])
        for type in DType.allCases {
            let tensor = Tensor.ones([2, 3], dtype: type)
            #expect(tensor.dtype == type && tensor.shape == [2, 3] && tensor.bytes().count == 6 * type.size)
            #expect(doubles(of: tensor) == [1, 1, 1, 1, 1, 1], "ones of \(type)")
            #expect(doubles(of: .zeros([2], dtype: type)) == [0, 0])
            let expected: [Double] = type == .bool ? [0, 1, 1, 1] : [0, 1, 2, 3]
            #expect(doubles(of: .arange(4, dtype: type)) == expected)
        }
        #expect(Tensor([7.0], shape: []).item() == 7)
        #expect(Tensor([Int64(7)]).item() == 7)
    }

    @Test("a description shows small tensors and the shape of large ones")
    func descriptions() {
        #expect(
            Tensor([1.5, 2, 3, 4], shape: [2, 2]).description == "Tensor(float64 [2, 2], [[1.5, 2.0], [3.0, 4.0]])")
        #expect(Tensor([Int64(3)], shape: []).description == "Tensor(int64 [], 3)")
        #expect(Tensor.zeros([0, 2]).description == "Tensor(float32 [0, 2])")
        #expect(Tensor.zeros([100, 100]).description == "Tensor(float32 [100, 100])")
    }

    // MARK: Conversions

    /// A tensor of a 16-bit type with these bits.
    private func tensor(of patterns: [UInt16], _ type: DType) -> Tensor {
        let tensor = Tensor(uninitialized: [patterns.count], type)
        tensor.write { target in
            patterns.withUnsafeBytes { target.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        }
        return tensor
    }

    private func patterns(of tensor: Tensor) -> [UInt16] {
        tensor.bytes().withUnsafeBytes { Array($0.bindMemory(to: UInt16.self)) }
    }

    /// The value of a pattern from the definition of the format.
    private func value(_ pattern: UInt16, exponentBits: Int) -> Double {
        let fractionBits = 15 - exponentBits
        let sign = pattern >> 15 == 1 ? -1.0 : 1.0
        let exponent = Int(pattern >> fractionBits) & (1 << exponentBits - 1)
        let fraction = Double(pattern & (1 << fractionBits - 1)) / Double(1 << fractionBits)
        let bias = 1 << (exponentBits - 1) - 1
        if exponent == 1 << exponentBits - 1 { return fraction == 0 ? sign * .infinity : .nan }
        if exponent == 0 { return sign * fraction * Double(sign: .plus, exponent: 1 - bias, significand: 1) }
        return sign * (1 + fraction) * Double(sign: .plus, exponent: exponent - bias, significand: 1)
    }

    /// The 16-bit types and how many bits their exponents have.
    private static let halves = [(DType.float16, 5), (.bfloat16, 8)]

    @Test("all 65,536 patterns of 16 bits go to float32 and float64 and back", arguments: halves)
    func patterns(type: DType, exponentBits: Int) {
        let all = Array(UInt16.min...UInt16.max)
        let halves = tensor(of: all, type)
        for wide in [DType.float32, .float64] {
            let numbers = doubles(of: halves.cast(to: wide))
            let back = patterns(of: halves.cast(to: wide).cast(to: type))
            var wrong = 0
            for pattern in all {
                let (number, expected) = (numbers[Int(pattern)], value(pattern, exponentBits: exponentBits))
                if expected.isNaN {
                    // NaN stays NaN of the same sign, quiet and with its payload.
                    let quiet = pattern | 1 << UInt16(14 - exponentBits)
                    if !number.isNaN || back[Int(pattern)] != quiet { wrong += 1 }
                } else if number != expected || number.sign != expected.sign || back[Int(pattern)] != pattern {
                    wrong += 1
                }
            }
            #expect(wrong == 0, "\(type) by way of \(wide): \(wrong) patterns")
        }
    }

    @Test("numbers between two patterns go to the nearer one, ties to the even one", arguments: halves)
    func rounding(type: DType, exponentBits: Int) {
        // Between each pair of neighbours, and past the largest, where the next step would be infinity's.
        let last = (UInt16(1) << UInt16(exponentBits) - 1) << UInt16(15 - exponentBits)
        var (inputs, expected) = ([Double](), [UInt16]())
        for pattern in 0..<last {
            let low = value(pattern, exponentBits: exponentBits)
            let step = pattern + 1 == last ? low - value(pattern - 1, exponentBits: exponentBits) : nil
            let high = step.map { low + $0 } ?? value(pattern + 1, exponentBits: exponentBits)
            let middle = (low + high) / 2
            let even = pattern & 1 == 0 ? pattern : pattern + 1
            // The smallest difference that a double shows beside a float32's: 2⁻⁴⁰ of the gap.
            let little = (high - low) * 0x1p-40
            for sign in [0, 0x8000] as [UInt16] {
                let direction = sign == 0 ? 1.0 : -1.0
                inputs += [middle, middle - little, middle + little, low + little, high - little].map { $0 * direction }
                expected += [even, pattern, pattern + 1, pattern, pattern + 1].map { $0 | sign }
            }
        }
        let doublesToHalf = patterns(of: Tensor(inputs).cast(to: type))
        // Counted first: a failing expectation prints every array in it.
        let wrong = inputs.indices.count { doublesToHalf[$0] != expected[$0] }
        #expect(wrong == 0, "of \(inputs.count) doubles")
        // The same for those that are float32 numbers.
        let exact = inputs.indices.filter { Double(Float(inputs[$0])) == inputs[$0] }
        let singles = patterns(of: Tensor(exact.map { Float(inputs[$0]) }).cast(to: type))
        let wrongSingles = exact.indices.count { singles[$0] != expected[exact[$0]] }
        #expect(wrongSingles == 0, "of \(exact.count) float32 numbers")
        let isTelling = exact.count > inputs.count / 8
        #expect(isTelling, "hardly a number was a float32 number")
        let limits: [Double] = [.infinity, -.infinity, 1e300, -1e300, 0, -0.0, 1e-300]
        let found = doubles(of: Tensor(limits).cast(to: type))
        #expect(found == [.infinity, -.infinity, .infinity, -.infinity, 0, 0, 0])
        #expect(found[5].sign == .minus)
    }

    @Test("whole numbers are written as they are, however large")
    func largeNumbers() {
        #expect(
            "\(Tensor([Int64.max, .min, 9_007_199_254_740_993]))".contains("9223372036854775807, -9223372036854775808"))
        #expect("\(Tensor([Int64(9_007_199_254_740_993)]))".contains("9007199254740993"))
    }

    @Test("floats go to integers by truncation, saturating, and NaN to 0", arguments: [DType.float32, .float64])
    func integers(type: DType) {
        let numbers: [Double] = [
            1.9, -1.9, 0.5, -0.5, 255, 256, 1e10, -1e10, 1e30, -1e30, .infinity, -.infinity, .nan,
        ]
        let inputs = Tensor(numbers).cast(to: type)
        let (large, small) = (Int64.max, Int64.min)
        let ten = Int64(10_000_000_000)
        #expect(
            inputs.cast(to: .int64).scalars(as: Int64.self)
                == [1, -1, 0, 0, 255, 256, ten, -ten, large, small, large, small, 0])
        let (high, low) = (Int32.max, Int32.min)
        #expect(
            inputs.cast(to: .int32).scalars(as: Int32.self)
                == [1, -1, 0, 0, 255, 256, high, low, high, low, high, low, 0])
        #expect(
            inputs.cast(to: .uint8).scalars(as: UInt8.self) == [1, 0, 0, 0, 255, 255, 255, 0, 255, 0, 255, 0, 0])
        // x ≠ 0, which NaN is.
        #expect(inputs.cast(to: .bool).scalars(as: Bool.self) == [Bool](repeating: true, count: 13))
        #expect(Tensor([0.0, -0.0]).cast(to: type).cast(to: .bool).scalars(as: Bool.self) == [false, false])
        // At the very ends, where a float is a power of two and the integer is one less.
        let ends = Tensor([0x1p63, -0x1p63, 0x1p31, -0x1p31]).cast(to: type)
        #expect(ends.cast(to: .int64).scalars(as: Int64.self) == [large, small, 1 << 31, -1 << 31])
        #expect(ends.cast(to: .int32).scalars(as: Int32.self) == [high, low, high, low])
    }

    @Test("integers go to smaller ones saturating, and to floats by rounding")
    func integerPairs() {
        let inputs: [Int64] = [0, 1, -1, 255, 256, 1 << 31, -1 << 31 - 1, .max, .min]
        let tensor = Tensor(inputs)
        #expect(
            tensor.cast(to: .int32).scalars(as: Int32.self)
                == [0, 1, -1, 255, 256, .max, .min, .max, .min])
        #expect(tensor.cast(to: .uint8).scalars(as: UInt8.self) == [0, 1, 0, 255, 255, 255, 0, 255, 0])
        #expect(tensor.cast(to: .float64).scalars(as: Double.self) == inputs.map(Double.init))
        #expect(tensor.cast(to: .float32).scalars(as: Float.self) == inputs.map(Float.init))
        // Every pair of types keeps small numbers.
        for from in DType.allCases {
            for to in DType.allCases {
                let numbers = Tensor([0.0, 1, 2, 100]).cast(to: from).cast(to: to)
                let isBool = from == .bool || to == .bool
                #expect(doubles(of: numbers) == (isBool ? [0, 1, 1, 1] : [0, 1, 2, 100]), "\(from) to \(to)")
            }
        }
    }

    @Test("views convert as their elements lie")
    func viewConversions() {
        let x = Tensor((0..<12).map(Int64.init), shape: [3, 4])
        #expect(doubles(of: x.transposed(0, 1)) == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
        #expect(doubles(of: x.sliced(axis: 1, 1..<4, step: 2)) == [1, 3, 5, 7, 9, 11])
        #expect(doubles(of: x[1]) == [4, 5, 6, 7])
        for type in DType.allCases where type != .bool {
            let typed = x.cast(to: type).transposed(0, 1)
            #expect(doubles(of: typed.reshaped(to: [2, 6])) == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11], "\(type)")
        }
    }

    @Test("axes of length 1 come and go without a copy, in a view too")
    func unitAxes() {
        let x = Tensor((0..<24).map(Double.init), shape: [2, 3, 4]).transposed(0, 2)
        let row = x.sliced(axis: 1, 1..<2)
        for view in [x.unsqueezed(0), x.unsqueezed(2), x.unsqueezed(-1)] {
            #expect(view.read { $0 } == x.read { $0 })
            #expect(doubles(of: view) == doubles(of: x))
        }
        #expect(row.squeezed(1).read { $0 } == row.read { $0 })
        #expect(row.squeezed(1).shape == [4, 2])
        #expect(doubles(of: row.squeezed(1)) == [4, 16, 5, 17, 6, 18, 7, 19])
        #expect(doubles(of: x[3]) == [3, 15, 7, 19, 11, 23])
        let gradient = gradient(
            of: { ($0.transposed(0, 1).unsqueezed(1).squeezed(1) * row.squeezed(1)).sum() },
            at: .ones([2, 4], dtype: .float64))
        #expect(doubles(of: gradient) == [4, 5, 6, 7, 16, 17, 18, 19])
    }
}
