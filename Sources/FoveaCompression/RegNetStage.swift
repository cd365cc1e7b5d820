import FoveaNN
import FoveaTensor

/// Blocks of RegNet's bottleneck without a change of resolution, depthwise and with channels scaled by their means:
/// pictures [B, C, H, W] → [B, D, H, W].
///
/// (Radosavovic et al., "Designing network design spaces", 2020; `RegStage` in timm's `models/regnet.py` with stride 1,
/// group width 1, and norms over the channels.)
///
///     z = act(LN(W₁ x));   z = act(LN(depthwise 3 × 3 of z));   z = squeeze-excitation(z);   z = LN(W₃ z)
///     x ← act(z + x)       where the widths differ, x stands as LN(W_s x) in the sum
public struct RegNetStage: Module {
    public var blocks: [Block]

    /// A convolution without bias, and a norm.
    public struct NormedConvolution: Module {
        public var convolution: Convolution2D
        public var norm: LayerNorm2D

        init(_ inputs: Int, _ outputs: Int, kernel: Int = 1, groups: Int = 1, key: RandomKey) {
            convolution = Convolution2D(
                inputs, outputs, kernel: Size2D(kernel), padding: Size2D(kernel / 2), groups: groups, bias: false,
                key: key.folding("convolution"))
            norm = LayerNorm2D(outputs)
        }

        public mutating func visit(_ visitor: inout ModuleVisitor) {
            visitor.module("convolution", &convolution)
            visitor.module("norm", &norm)
        }

        func callAsFunction(_ x: Tensor) -> Tensor { norm(convolution(x)) }
    }

    /// One bottleneck.
    public struct Block: Module {
        public var enter: NormedConvolution
        public var spatial: NormedConvolution
        public var scale: SqueezeExcitation
        public var leave: NormedConvolution
        /// Where the widths differ; nil where the shortcut is the input itself.
        public var shortcut: NormedConvolution?

        init(_ inputs: Int, _ outputs: Int, key: RandomKey) {
            enter = NormedConvolution(inputs, outputs, key: key.folding("enter"))
            spatial = NormedConvolution(outputs, outputs, kernel: 3, groups: outputs, key: key.folding("spatial"))
            // A quarter of the block's input, whatever the width inside; halves go to the even number.
            scale = SqueezeExcitation(
                outputs, squeezed: Int((Double(inputs) * 0.25).rounded(.toNearestOrEven)), activation: .silu,
                key: key.folding("scale"))
            leave = NormedConvolution(outputs, outputs, key: key.folding("leave"))
            if inputs != outputs { shortcut = NormedConvolution(inputs, outputs, key: key.folding("shortcut")) }
        }

        public mutating func visit(_ visitor: inout ModuleVisitor) {
            visitor.module("enter", &enter)
            visitor.module("spatial", &spatial)
            visitor.module("scale", &scale)
            visitor.module("leave", &leave)
            visitor.module("shortcut", &shortcut)
        }

        func callAsFunction(_ x: Tensor) -> Tensor {
            let inner = scale(spatial(enter(x).silu()).silu())
            return (leave(inner) + (shortcut?(x) ?? x)).silu()
        }

        /// What one picture of this many pixels takes.
        func cost(pixels: Int) -> Cost {
            [enter, spatial, leave, shortcut].reduce(scale.cost) { total, layer in
                layer.map { total + $0.convolution.cost(pixels: pixels) } ?? total
            }
        }
    }

    /// - Parameters:
    ///   - inputs: C.
    ///   - outputs: D.
    ///   - depth: how many blocks; the first changes the width.
    ///   - key: of the random numbers that the weights start with.
    public init(_ inputs: Int, _ outputs: Int, depth: Int, key: RandomKey) {
        blocks = (0..<depth).map { Block($0 == 0 ? inputs : outputs, outputs, key: key.folding(UInt64($0))) }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        // Counted from one, as published.
        for index in blocks.indices { visitor.module("b\(index + 1)", &blocks[index]) }
    }

    /// Pictures x [B, C, H, W] → [B, D, H, W].
    public func callAsFunction(_ x: Tensor) -> Tensor { blocks.reduce(x) { x, block in block(x) } }

    /// What one picture of this many pixels takes.
    func cost(pixels: Int) -> Cost { blocks.reduce(Cost()) { $0 + $1.cost(pixels: pixels) } }
}
