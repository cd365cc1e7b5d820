import FoveaTensor
import FoveaTestSupport
import Testing

private func zeros(_ shape: Int...) -> Tensor { .zeros(shape) }

/// Calls that are a programmer's mistake. Each must name the op and what it was given.
let tensorMistakes: [TrapCase] = [
    // Products
    TrapCase("inner lengths", saying: "matmul: the left's last axis", "float32 [2, 3], float32 [4, 5]") {
        _ = matmul(zeros(2, 3), zeros(4, 5))
    },
    TrapCase("batch axes", saying: "matmul: the batch axes do not broadcast", "[2, 3, 4]", "[3, 4, 5]") {
        _ = matmul(zeros(2, 3, 4), zeros(3, 4, 5))
    },
    TrapCase("scalar operand", saying: "matmul: a scalar") { _ = matmul(zeros(), zeros(2, 2)) },
    TrapCase("product of two types", saying: "matmul: the types differ", "float32 [2, 2], float64 [2, 2]") {
        _ = matmul(zeros(2, 2), .zeros([2, 2], dtype: .float64))
    },
    TrapCase("linear", saying: "linear: the input's last axis", "[2, 3]", "[5, 4]") {
        _ = linear(zeros(2, 3), weight: zeros(5, 4))
    },
    TrapCase("linear's bias", saying: "linear: the bias") {
        _ = linear(zeros(2, 4), weight: zeros(5, 4), bias: zeros(4))
    },
    TrapCase("linear's types", saying: "linear: the types differ") {
        _ = linear(zeros(2, 4), weight: .zeros([5, 4], dtype: .float64))
    },
    TrapCase("parts", saying: "joinedLinear: no parts were given") { _ = joinedLinear([]) },
    TrapCase("a part's input", saying: "joinedLinear: the input's last axis", "[1, 2, 3]", "[5, 4]") {
        _ = joinedLinear([(zeros(1, 2, 3), zeros(5, 4), nil)])
    },
    TrapCase("widths of parts", saying: "joinedLinear: inputs [..., N, C] of one type", "[2, 3]", "[2, 4]") {
        _ = joinedLinear([(zeros(2, 3), zeros(5, 3), nil), (zeros(2, 4), zeros(6, 4), nil)])
    },
    TrapCase("samples of parts", saying: "joinedLinear: the axes before the last two", "[3, 2, 4]", "[2, 2, 4]") {
        _ = joinedLinear([(zeros(3, 2, 4), zeros(5, 4), nil), (zeros(2, 2, 4), zeros(5, 4), nil)])
    },
    TrapCase("affine parts", saying: "joinedAffine: no parts were given") { _ = joinedAffine([]) },
    TrapCase("an affine part's weight", saying: "joinedAffine: inputs [..., N, D], weights [D]", "[2, 3]", "[4]") {
        _ = joinedAffine([(zeros(2, 3), zeros(4), nil)])
    },
    TrapCase("samples of affine parts", saying: "joinedAffine: the axes before the last two", "[3, 2, 4]", "[2, 2, 4]")
    {
        _ = joinedAffine([(zeros(3, 2, 4), nil, nil), (zeros(2, 2, 4), nil, nil)])
    },
    TrapCase("groups", saying: "groupedLinear: an input [..., G·C]", "for 2 groups", "[3, 6]", "[4, 2]") {
        _ = groupedLinear(zeros(3, 6), weight: zeros(4, 2), groups: 2)
    },
    TrapCase("groups back", saying: "groupedLinear: an input [..., G·D]", "[3, 4]", "[6, 2]") {
        _ = groupedLinear(zeros(3, 4), weight: zeros(6, 2), groups: 2, transposed: true)
    },
    // Element by element
    TrapCase("sum of shapes", saying: "+: the shapes do not broadcast", "float32 [2, 3], float32 [2]") {
        _ = zeros(2, 3) + zeros(2)
    },
    TrapCase("maximum of shapes", saying: "maximum: the shapes do not broadcast") {
        _ = maximum(zeros(4), zeros(3))
    },
    TrapCase("sum of types", saying: "+: the types differ; cast(to:)", "float32 [2], float64 [2]") {
        _ = zeros(2) + Tensor.zeros([2], dtype: .float64)
    },
    TrapCase("integers do not compute", saying: "exp: float32 or float64 is needed", "int32 [1]") {
        _ = Tensor([Int32(1)]).exp()
    },
    TrapCase("storage types do not compute", saying: "*: float32 or float64 is needed", "float16 [2]") {
        _ = zeros(2).cast(to: .float16) * zeros(2).cast(to: .float16)
    },
    TrapCase("comparison of types", saying: ".<: the types differ", "float32 [2], float64 [2]") {
        _ = (zeros(2) .< Tensor.zeros([2], dtype: .float64))
    },
    TrapCase("comparison with a fraction", saying: ".==: 0.5 is no int64 number", "int64 [1]") {
        _ = (Tensor([Int64(1)]) .== 0.5)
    },
    TrapCase("comparison of a storage type", saying: ".>: float16 does not compute") {
        _ = (zeros(2).cast(to: .float16) .> 0)
    },
    TrapCase("logic", saying: ".&: bool is needed", "float32 [2]") { _ = (zeros(2) .& zeros(2)) },
    TrapCase("where's mask", saying: "where: the mask must be bool", "float32 [2]") {
        _ = select(zeros(2), zeros(2), else: 0)
    },
    TrapCase("where's types", saying: "where: the types differ") {
        _ = select(Tensor([true]), zeros(1), else: Tensor([Int64(1)]))
    },
    TrapCase("where's shapes", saying: "where: the shapes do not broadcast", "bool [3]") {
        _ = select(Tensor([true, false, true]), zeros(2), else: 0)
    },
    TrapCase("clamp without bounds", saying: "clamp: a bound is needed") { _ = zeros(2).clamped() },
    TrapCase("clamp to NaN", saying: "clamp: the bounds are nan") { _ = zeros(2).clamped(min: .nan) },
    TrapCase("softplus", saying: "softplus: beta must be above 0, not 0.0") { _ = zeros(2).softplus(beta: 0) },
    // Shapes
    TrapCase("reshape", saying: "reshape: [5] does not hold 6 elements", "[2, 3]") {
        _ = zeros(2, 3).reshaped(to: [5])
    },
    TrapCase("inferred length", saying: "reshape: [-1, 4] does not divide 6 elements") {
        _ = zeros(2, 3).reshaped(to: [-1, 4])
    },
    TrapCase("slice's end", saying: "slice: 1..<9 by 1 is outside axis 0 of length 4") {
        _ = zeros(4, 2).sliced(axis: 0, 1..<9)
    },
    TrapCase("slice's start", saying: "slice: -1..<2 by 1 is outside axis 1 of length 2") {
        _ = zeros(4, 2).sliced(axis: -1, -1..<2)
    },
    TrapCase("slice's step", saying: "slice: 0..<2 by 0") { _ = zeros(4).sliced(axis: 0, 0..<2, step: 0) },
    TrapCase("slice's axis", saying: "slice: axis 2 is outside the 2 axes") {
        _ = zeros(4, 2).sliced(axis: 2, 0..<1)
    },
    TrapCase("subscript", saying: "subscript: index 4 is outside the first axis") { _ = zeros(4, 2)[4] },
    TrapCase("permute", saying: "permute: [0, 0] does not name each of the 2 axes once") {
        _ = zeros(4, 2).permuted(to: [0, 0])
    },
    TrapCase("transpose", saying: "transpose: axis -3 is outside the 2 axes") { _ = zeros(4, 2).transposed(-3, 1) },
    TrapCase("expand", saying: "expand: the shape does not broadcast to [2, 3]", "[4]") {
        _ = zeros(4).expanded(to: [2, 3])
    },
    TrapCase("expand to a negative length", saying: "expand: the shape does not broadcast to [-1]", "[1]") {
        _ = zeros(1).expanded(to: [-1])
    },
    TrapCase("squeeze", saying: "squeeze: axis 0 is not of length 1") { _ = zeros(4, 1).squeezed(0) },
    TrapCase("unsqueeze", saying: "unsqueeze: axis 4 is outside") { _ = zeros(4, 1).unsqueezed(4) },
    TrapCase("unsqueeze from the end", saying: "unsqueeze: axis -5 is outside") { _ = zeros(4, 1).unsqueezed(-5) },
    TrapCase("flatten", saying: "flatten: axis 1 stands after axis 0") { _ = zeros(4, 1).flattened(from: 1, to: 0) },
    TrapCase("concatenate", saying: "concatenate: axes other than 0", "[2, 3]", "[2, 4]") {
        _ = concatenated([zeros(2, 3), zeros(2, 4)], axis: 0)
    },
    TrapCase("concatenate nothing", saying: "concatenate: no tensors") { _ = concatenated([], axis: 0) },
    TrapCase("number of scalars", saying: "5 scalars do not fill the shape [2, 3]") {
        _ = Tensor([1.0, 2, 3, 4, 5], shape: [2, 3])
    },
    TrapCase("negative lengths", saying: "[-2, -3]") { _ = Tensor([1.0, 2, 3, 4, 5, 6], shape: [-2, -3]) },
    TrapCase("a negative length", saying: "[-4]") { _ = Tensor.zeros([-4]) },
    TrapCase("too many axes", saying: "has more than 32 axes") {
        _ = Tensor.ones([Int](repeating: 1, count: 33))
    },
    TrapCase("too many axes of a view", saying: "has more than 32 axes") {
        _ = zeros(4).reshaped(to: [4] + [Int](repeating: 1, count: 32))
    },
    TrapCase("one axis too many", saying: "has more than 32 axes") {
        _ = (0..<32).reduce(zeros(4)) { x, _ in x.unsqueezed(0) }
    },
    TrapCase("item", saying: "item(): one element is needed", "[2]") { _ = zeros(2).item() },
    TrapCase("scalars of another type", saying: "the elements are float32, not float64") {
        _ = zeros(2).scalars(as: Double.self)
    },
    // Reductions
    TrapCase("axis of a sum", saying: "sum: axis 2 is outside the 2 axes") { _ = zeros(4, 2).sum(axes: [2]) },
    TrapCase("axis named twice", saying: "max: an axis is named twice") { _ = zeros(4, 2).max(axes: [1, -1]) },
    TrapCase("argmax of nothing", saying: "argmax: axis 1 is empty") { _ = zeros(4, 0).argmax(axis: 1) },
    // Neural
    TrapCase("softmax's axis", saying: "softmax: axis 1 is outside the 1 axes") { _ = zeros(4).softmax(axis: 1) },
    TrapCase("layer norm", saying: "layerNorm: weight and bias", "[2, 3]", "[2]") {
        _ = layerNorm(zeros(2, 3), weight: zeros(2))
    },
    TrapCase("attention", saying: "attention: query", "[2, 3]", "[4, 5]") {
        _ = attention(query: zeros(2, 3), keys: zeros(4, 5), values: zeros(4, 3))
    },
    TrapCase("attention's mask", saying: "attention: the mask must be bool", "[3, 4]") {
        _ = attention(query: zeros(2, 3), keys: zeros(4, 3), values: zeros(4, 3), mask: zeros(3, 4))
    },
    TrapCase("dropout's rate", saying: "dropout: the rate must be in 0 ..< 1, not 1.0") {
        _ = zeros(2).droppingOut(1, key: RandomKey(seed: 0))
    },
    TrapCase("label too large", saying: "crossEntropy: label 3 is outside the 3 classes") {
        _ = crossEntropy(zeros(2, 3), Tensor([Int64(0), 3]))
    },
    TrapCase("label too small", saying: "crossEntropy: label -1 is outside the 3 classes") {
        _ = crossEntropy(zeros(2, 3), Tensor([Int64(0), -1]))
    },
    TrapCase("labels of another shape", saying: "crossEntropy: logits [..., C] and int64 labels", "int64 [3]") {
        _ = crossEntropy(zeros(2, 3), Tensor([Int64(0), 1, 2]))
    },
    TrapCase("labels of another type", saying: "crossEntropy: logits [..., C] and int64 labels", "int32 [2]") {
        _ = crossEntropy(zeros(2, 3), Tensor([Int32(0), 1]))
    },
    TrapCase("label smoothing", saying: "label smoothing must be in 0 ... 1, not 1.5") {
        _ = crossEntropy(zeros(1, 3), Tensor([Int64(0)]), labelSmoothing: 1.5)
    },
    TrapCase("dropout of flags", saying: "dropout: float32 or float64 is needed", "bool [8]") {
        _ = Tensor.zeros([8], dtype: .bool).droppingOut(0.5, key: RandomKey(seed: 0))
    },
    TrapCase("a negative length beside a length of 0", saying: "reshape: [-2, 0] does not hold 0 elements") {
        _ = zeros(0, 3).reshaped(to: [-2, 0])
    },
    TrapCase("attention of several heads to none", saying: "attention: the heads of the keys must divide") {
        _ = attention(query: zeros(2, 4, 3, 5), keys: zeros(2, 0, 6, 5), values: zeros(2, 0, 6, 5))
    },
    // The tape
    TrapCase("a gradient of another shape where a product adds", saying: "contributions to one gradient differ") {
        let op = Op("narrow", "whose gradient has a wrong shape") { _ in [] }
        _ = valueAndGradient(
            of: { p in
                let narrow = withoutGradient { p[1].sum() }.derived(by: op, from: p[1]) { g in g }
                return linear(p[0], weight: p[1]).sum() + narrow
            }, at: [zeros(2, 8), zeros(8, 8)])
    },
    TrapCase("gradient of a vector", saying: "gradient(of:at:): the value must be one number", "[3]") {
        _ = gradient(of: { $0 * 2 }, at: zeros(3))
    },
    TrapCase("value and gradient of a vector", saying: "valueAndGradient(of:at:): the value must be one number", "[3]")
    {
        _ = valueAndGradient(of: { $0[0] * 2 }, at: [zeros(3)])
    },
    TrapCase(
        "vector-Jacobian product", saying: "vectorJacobianProduct: the cotangent must be", "float32 [3], float32 [2]"
    ) { _ = vectorJacobianProduct(of: { $0[0] * 2 }, at: [zeros(3)], cotangent: zeros(2)) },
    TrapCase("gradient at integers", saying: "gradient(of:at:): float32 or float64 is needed", "int64 [1]") {
        _ = gradient(of: { $0 }, at: Tensor([Int64(1)]))
    },
    TrapCase("gradient of a gradient", saying: "gradient(of:at:): a gradient cannot be differentiated again") {
        _ = gradient(of: { x in gradient(of: { $0.square().sum() }, at: x).sum() }, at: zeros(3))
    },
    TrapCase("outer tensor inside an inner gradient", saying: "a gradient cannot be differentiated again") {
        _ = gradient(
            of: { x in gradient(of: { y in (x * y).sum() }, at: Tensor.ones([3])).sum() }, at: zeros(3))
    },
    TrapCase("another thread", saying: "a tensor that another thread is tracing was used on this one", "[3]") {
        _ = gradient(
            of: { x in
                let doubled = onThread(stackSize: 1 << 20) { x * 2 }
                return doubled.sum()
            }, at: zeros(3))
    },
    TrapCase("another thread, tracing too", saying: "a tensor that another thread is tracing was used on this one") {
        _ = gradient(
            of: { x in
                onThread(stackSize: 1 << 20) { gradient(of: { y in (x * y).sum() }, at: Tensor.ones([3])).sum() }
            }, at: zeros(3))
    },
    TrapCase("contributions of two shapes", saying: "gradient: contributions to one gradient differ", "[2]", "[3]") {
        _ = gradient(
            of: { x in
                let wrong = x.derived(by: .negate, from: x) { _ in Tensor.zeros([2]) }
                return (wrong + x).sum()
            }, at: zeros(3))
    },
    // Names, threads
    TrapCase("a parameter's name", saying: "\"encoder.weight\"", "[near parameter encoder.weight]") {
        var weight = zeros(2, 3)
        weight.label = ParameterName.intern("encoder.weight")
        _ = weight + zeros(2)
    },
    TrapCase("the parameter before", saying: "exp: float32", "[near parameter head.bias]") {
        var bias = zeros(2)
        bias.label = ParameterName.intern("head.bias")
        _ = bias + zeros(2)
        _ = Tensor([true]).exp()
    },
    TrapCase("no threads", saying: "Workers.count: at least one thread is needed, got 0") { Workers.count = 0 },
]

@Suite("Mistakes in the calling code")
struct TrapTests {
    @Test("stop the program and say why", arguments: zip(tensorMistakes.indices, tensorMistakes.map(\.label)))
    func mistake(index: Int, label: String) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [index] in
            tensorMistakes[index].call()
        }
        tensorMistakes[index].expectMessage(in: result)
    }
}
