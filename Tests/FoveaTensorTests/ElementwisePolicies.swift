import FoveaTensor

private let inf = Double.infinity
private let nan = Double.nan

private func row(_ values: Double...) -> Tensor { Tensor(values) }

/// What the elementwise ops make of NaN, infinities, ties and the edges of their pieces.
let elementwisePolicies: [PolicyCase] =
    powerPolicies + stepPolicies + activationPolicies + comparisonPolicies + choicePolicies

private let powerPolicies: [PolicyCase] = [
    PolicyCase(
        "power", [row(0, nan, -2, -2, 0, inf, 1), row(0, 0, 3, 0.5, -1, -1, nan)],
        gives: row(1, 1, -8, nan, inf, 0, 1)
    ) { power($0[0], $0[1]) },
    PolicyCase(
        "power at 0", [row(0, 0, 0, 3), row(0, 1, 2, 0)], gives: row(1, 0, 0, 1),
        gradients: [row(0, 2, 0, 0), row(0, 0, 0, 4.394449154672439)]
    ) { power($0[0], $0[1]) },
    PolicyCase("power of a negative base", [row(-2), row(3)], gives: row(-8), gradients: [row(12), row(nan)]) {
        power($0[0], $0[1])
    },
    PolicyCase("power with exponent 0", [row(0, nan, inf)], gives: row(1, 1, 1), gradients: [row(0, 0, 0)]) {
        power($0[0], 0)
    },
    PolicyCase("power of the base 0", [row(0, 2, -1)], gives: row(1, 0, inf), gradients: [row(0, 0, -inf)]) {
        power(0, $0[0])
    },
    PolicyCase(
        "reciprocal", [row(0, inf, nan, -2)], gives: row(inf, 0, nan, -0.5), gradients: [row(-inf, 0, nan, -1)]
    ) { $0[0].reciprocal() },
    PolicyCase("rsqrt", [row(0, inf, nan, -2)], gives: row(inf, 0, nan, nan), gradients: [row(-inf, 0, nan, nan)]) {
        $0[0].rsqrt()
    },
    PolicyCase("log1p", [row(-1, -2, inf, nan, 0)], gives: row(-inf, nan, inf, nan, 0)) { $0[0].log1p() },
    PolicyCase("log1p of a small number", [row(1e-30)], gives: row(1e-30), gradients: [row(1)]) {
        $0[0].log1p() * 1e30 / 1e30
    },
    PolicyCase(
        "expm1", [row(-inf, inf, nan, 0)], gives: row(-1, inf, nan, 0), gradients: [row(0, inf, nan, 4)]
    ) { $0[0].expm1() },
    PolicyCase("sin", [row(inf, -inf, nan, 0)], gives: row(nan, nan, nan, 0)) { $0[0].sin() },
    PolicyCase("cos", [row(inf, -inf, nan, 0)], gives: row(nan, nan, nan, 1)) { $0[0].cos() },
]

private let stepPolicies: [PolicyCase] = [
    PolicyCase(
        "sign", [row(-inf, -2, 0, 2, inf, nan)], gives: row(-1, -1, 0, 1, 1, nan), gradients: [row(0, 0, 0, 0, 0, 0)]
    ) { $0[0].sign() },
    PolicyCase(
        "floor", [row(-1.5, -1, 1.5, 2, inf, nan)], gives: row(-2, -1, 1, 2, inf, nan),
        gradients: [row(0, 0, 0, 0, 0, 0)]
    ) { $0[0].floor() },
    PolicyCase(
        "ceil", [row(-1.5, -1, 1.5, 2, -inf, nan)], gives: row(-1, -1, 2, 2, -inf, nan),
        gradients: [row(0, 0, 0, 0, 0, 0)]
    ) { $0[0].ceil() },
    PolicyCase(
        "round to even", [row(-1.5, -0.5, 0.5, 1.5, 2.5, inf, nan)], gives: row(-2, 0, 0, 2, 2, inf, nan),
        gradients: [row(0, 0, 0, 0, 0, 0, 0)]
    ) { $0[0].round() },
    PolicyCase(
        "clamp", [row(-2, -1, 0, 1, 2, nan, inf)], gives: row(-1, -1, 0, 1, 1, nan, 1),
        gradients: [row(0, 2, 3, 4, 0, 0, 0)]
    ) { $0[0].clamped(min: -1, max: 1) },
    PolicyCase("clamp from below", [row(-inf, inf)], gives: row(-1, inf), gradients: [row(0, 2)]) {
        $0[0].clamped(min: -1)
    },
    PolicyCase("clamp with bounds crossed", [row(-2, 0, 2)], gives: row(-1, -1, -1), gradients: [row(0, 0, 0)]) {
        $0[0].clamped(min: 1, max: -1)
    },
]

private let activationPolicies: [PolicyCase] = [
    PolicyCase(
        "squaredRelu", [row(-1, 0, 2, nan, inf, -inf)], gives: row(0, 0, 4, nan, inf, 0),
        gradients: [row(0, 0, 12, nan, inf, 0)]
    ) { $0[0].squaredRelu() },
    PolicyCase(
        "leakyRelu", [row(-2, 0, 2, nan, inf, -inf)], gives: row(-0.5, 0, 2, nan, inf, -inf),
        gradients: [row(0.25, 0.5, 3, nan, 5, 1.5)]
    ) { $0[0].leakyRelu(slope: 0.25) },
    PolicyCase("geluTanh far out", [row(-40, 40, 0)], gives: row(0, 40, 0), gradients: [row(0, 2, 1.5)]) {
        $0[0].geluTanh()
    },
    PolicyCase(
        "geluTanh very far out", [row(-1e30, 1e30)], gives: row(0, 1e30), gradients: [row(0, 2)]
    ) { $0[0].geluTanh() },
    PolicyCase("geluTanh of NaN", [row(nan, inf, -inf)], gives: row(nan, inf, nan)) { $0[0].geluTanh() },
    PolicyCase(
        "silu far out", [row(-1e4, 1e4, 0)], gives: row(0, 1e4, 0), gradients: [row(0, 2, 1.5)]
    ) { $0[0].silu() },
    PolicyCase(
        "silu of NaN", [row(nan, inf, -inf)], gives: row(nan, inf, nan), gradients: [row(nan, nan, nan)]
    ) { $0[0].silu() },
    PolicyCase(
        "softplus", [row(-inf, inf, nan, -1e4, 1e4)], gives: row(0, inf, nan, 0, 1e4),
        gradients: [row(0, 2, nan, 0, 5)]
    ) { $0[0].softplus() },
    // At the threshold the formula still holds: log(1 + e) / 2.
    PolicyCase(
        "softplus around its threshold", [row(0.5, 0.75)], gives: row(0.6566308437591114, 0.75),
        gradients: [row(0.7310585786300049, 2)]
    ) { $0[0].softplus(beta: 2, threshold: 1) },
    PolicyCase(
        "elu", [row(-inf, inf, nan, 0, -1e4)], gives: row(-0.5, inf, nan, 0, -0.5), gradients: [row(0, 2, nan, 2, 0)]
    ) { $0[0].elu(alpha: 0.5) },
]

private let comparisonPolicies: [PolicyCase] = {
    let a = row(nan, nan, inf, -inf, 0, 1)
    let b = row(nan, 1, inf, inf, -0.0, nan)
    func relation(_ label: String, _ values: Tensor, _ run: @escaping @Sendable (Tensor, Tensor) -> Tensor)
        -> PolicyCase
    {
        PolicyCase(label, [a, b], gives: values) { run($0[0], $0[1]).cast(to: .float64) }
    }
    return [
        relation("equal", row(0, 0, 1, 0, 1, 0)) { $0 .== $1 },
        relation("notEqual", row(1, 1, 0, 1, 0, 1)) { $0 .!= $1 },
        relation("less", row(0, 0, 0, 1, 0, 0)) { $0 .< $1 },
        relation("lessOrEqual", row(0, 0, 1, 1, 1, 0)) { $0 .<= $1 },
        relation("greater", row(0, 0, 0, 0, 0, 0)) { $0 .> $1 },
        relation("greaterOrEqual", row(0, 0, 1, 0, 1, 0)) { $0 .>= $1 },
        relation("isNaN", row(1, 1, 0, 0, 0, 0)) { a, _ in a.isNaN() },
        relation("isFinite", row(0, 0, 0, 0, 1, 1)) { a, _ in a.isFinite() },
        // Neighbours that are one float64 number.
        PolicyCase("large integers", [], gives: row(0, 1)) { _ in
            let a = Tensor([Int64(1) << 53, 1 << 53])
            return (a .== Tensor([(Int64(1) << 53) + 1, 1 << 53])).cast(to: .float64)
        },
    ]
}()

private let choicePolicies: [PolicyCase] = [
    PolicyCase(
        "where not chosen", [row(nan, 1, inf), row(2, nan, 3)], gives: row(2, 1, 3),
        gradients: [row(0, 2, 0), row(1, 0, 3)]
    ) { select(Tensor([false, true, false]), $0[0], else: $0[1]) },
    PolicyCase("where with NaN ahead", [row(nan, 1)], gives: row(0, 1), gradients: [row(0, 2)]) {
        select($0[0].isNaN(), 0, else: $0[0])
    },
    PolicyCase("where of integers", [], gives: row(1, 5)) { _ in
        select(Tensor([true, false]), Tensor([Int64(1), 2]), else: Tensor([Int64(4), 5])).cast(to: .float64)
    },
]
