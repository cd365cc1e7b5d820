import FoveaTensor
for op in Op.catalogue {
    if let c = op.checkGradients() { print(c.passed ? "ok  " : "FAIL", op.name, c.maxRelativeError, c.samples, c.passed ? "" : c.message) }
}
var clock = ContinuousClock()
for _ in 0..<3 {
let t = clock.measure {
    let g = gradient(of: { x in var y = x; for _ in 0..<1_000_000 { y = y * 1.0000001 }; return y.sum() }, at: Tensor.ones([8]))
    print(g)
}
print("1M chain", t, StoragePool.statistics)
}
print(Tensor.normal([5], key: RandomKey(seed: 0)))
let x = Tensor.normal([1000000], key: RandomKey(seed: 1), dtype: .float64)
print(x.mean().item(), ((x-x.mean()).square().mean()).item(), Kernels.instructionSet)
let a = Tensor.normal([1024,1024], key: RandomKey(seed: 1)), b = Tensor.normal([1024,1024], key: RandomKey(seed: 2))
for n in [1,2] { Workers.count = n; let t = clock.measure { for _ in 0..<10 { _ = matmul(a, b) } }; print(n, "GF/s", 10*2*1.024*1.024*1.024 / (Double(t.components.attoseconds)/1e18+Double(t.components.seconds))) }
