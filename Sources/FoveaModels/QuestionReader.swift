import Foundation
import FoveaCompression
import FoveaNN
import FoveaTensor

/// Sizes of a `QuestionReader` but for those of its compressor.
public struct QuestionReaderOptions: Sendable {
    /// Of each picture.
    public var channels: Int
    /// Height and width of the pictures in pixels, multiples of the patch size.
    public var imageSize: (height: Int, width: Int)
    /// P, the most pictures of a sample.
    public var pictures: Int
    /// Pixels along a patch's side.
    public var patchSize: Int
    /// C of the encoder's tokens, a multiple of 4.
    public var width: Int
    /// Layers of the encoder.
    public var encoderDepth: Int
    /// Heads of the encoder, a divisor of C.
    public var encoderHeads: Int
    /// The rate of the encoder's dropout.
    public var dropout: Double
    /// Of the language model, with its vocabulary.
    public var decoder: LanguageModel.Options

    public init(
        channels: Int, imageSize: (height: Int, width: Int), pictures: Int = 1, patchSize: Int, width: Int,
        encoderDepth: Int, encoderHeads: Int, dropout: Double = 0, decoder: LanguageModel.Options
    ) {
        self.channels = channels
        self.imageSize = imageSize
        self.pictures = pictures
        self.patchSize = patchSize
        self.width = width
        self.encoderDepth = encoderDepth
        self.encoderHeads = encoderHeads
        self.dropout = dropout
        self.decoder = decoder
    }

    /// The shape of the tokens that the compressor gets of each picture.
    public var tokens: TokenShape {
        TokenShape(
            grid: .init(rows: imageSize.height / patchSize, columns: imageSize.width / patchSize), width: width)
    }
}

/// A small vision-language model around a compressor, that reads many questions about a picture at once.
///
///     pictures → convolution p × p, GELU, convolution 3 × 3 → ⊙ (1 + positions) → encoder layers → norm
///              → compressor → projector → + positions → language model ← questions
///
/// Positions multiply what is seen: an empty patch stays empty wherever it is, and a full one carries its place through
/// every layer. Added ones, at this size and in a few thousand steps, leave a model guessing between left and right.
/// They start as sines of row and column.
public struct QuestionReader<Method: Compressor>: QuestionAnswerer {
    /// Cuts pictures into patches.
    public var patches: Convolution2D
    /// Mixes neighbouring patches.
    public var mixing: Convolution2D
    /// [N, C].
    public var positions: Tensor
    public var encoder: [TransformerBlock]
    public var encoderNorm: LayerNorm
    public var compressor: Method
    /// To the width D of the language model.
    public var projector: Linear
    /// Of the compressed tokens of a picture, [M, D].
    public var prefixPositions: Tensor
    /// Of the pictures of a sample, [P, D]; nil where there is one.
    public var pictureEmbeddings: Tensor?
    public var decoder: LanguageModel
    /// Rows and columns of the patches.
    public let grid: VisualTokens.Grid

    public typealias Options = QuestionReaderOptions

    /// A model with fresh weights around a compressor. Traps where the compressor cannot take the encoder's tokens.
    ///
    /// - Parameters:
    ///   - options: sizes of everything but the compressor.
    ///   - compressor: for tokens of shape `options.tokens`.
    ///   - key: of the random numbers that the other weights start with.
    public init(_ options: Options, compressor: Method, key: RandomKey) {
        let tokens = options.tokens
        if let problem = compressor.problem(with: tokens) { trap("QuestionReader", problem) }
        guard options.width % 4 == 0 else {
            trap("QuestionReader", "sines of rows and columns need a width that divides by 4, not \(options.width)")
        }
        let (width, compressed) = (options.width, compressor.outputShape(tokens))
        patches = Convolution2D(
            options.channels, width, kernel: Size2D(options.patchSize), stride: Size2D(options.patchSize),
            key: key.folding("patches"))
        mixing = Convolution2D(width, width, kernel: 3, padding: 1, key: key.folding("mixing"))
        grid = tokens.grid!
        positions = QuestionReader.sines(grid, width: width)
        encoder = (0..<options.encoderDepth).map {
            TransformerBlock(
                width, heads: options.encoderHeads, hidden: 2 * width, dropout: options.dropout,
                key: key.folding("encoder").folding(UInt64($0)))
        }
        encoderNorm = LayerNorm(width)
        self.compressor = compressor
        projector = Linear(compressed.width, options.decoder.width, key: key.folding("projector"))
        prefixPositions = .normal(
            [compressed.count, options.decoder.width], deviation: 0.1, key: key.folding("prefixPositions"))
        if options.pictures > 1 {
            pictureEmbeddings = .normal(
                [options.pictures, options.decoder.width], deviation: 0.5, key: key.folding("pictureEmbeddings"))
        }
        decoder = LanguageModel(options.decoder, key: key.folding("decoder"))
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("patches", &patches)
        visitor.module("mixing", &mixing)
        visitor.parameter("positions", &positions)
        visitor.modules("encoder", &encoder)
        visitor.module("encoderNorm", &encoderNorm)
        visitor.module("compressor", &compressor)
        visitor.module("projector", &projector)
        // Under the names by which optimizers know what is a list of vectors and no matrix.
        visitor.parameter("prefix.positions", &prefixPositions)
        visitor.parameter("prefix.mediaEmbeddings", &pictureEmbeddings)
        visitor.module("decoder", &decoder)
    }

    /// What the compressor gets of pictures [B, channels, height, width].
    ///
    /// - Parameters:
    ///   - pictures: the pictures.
    ///   - tracked: whether to keep track of which patches go where.
    public func tokens(_ pictures: Tensor, tracked: Bool = false) -> VisualTokens {
        let stem = mixing(patches(pictures).gelu()).flattened(from: 2).transposed(1, 2)
        var x = stem * (positions + 1)
        for block in encoder { x = block(x) }
        return VisualTokens(patches: encoderNorm(x), grid: grid, tracked: tracked)
    }

    /// Packed questions → logits [B, A, V]. Traps on more pictures than the model was made for.
    public func callAsFunction(_ questions: PackedQuestions) -> Tensor {
        let (batch, count) = (questions.pictures.shape[0], questions.pictures.shape[1])
        let compressed = compressor(tokens(questions.pictures.flattened(from: 0, to: 1)))
        let length = compressed.count
        var prefix = (projector(compressed.features) + prefixPositions)
            .reshaped(to: [batch, count, length, decoder.options.width])
        if let pictureEmbeddings {
            guard count <= pictureEmbeddings.shape[0] else {
                trap("QuestionReader", "\(count) pictures are more than \(pictureEmbeddings.shape[0])")
            }
            prefix = prefix + pictureEmbeddings.sliced(axis: 0, 0..<count).unsqueezed(1)
        }
        let mask = questions.pictureMask.map {
            $0.unsqueezed(2).expanded(to: [batch, count, length]).contiguous().flattened(from: 1, to: 2)
        }
        return decoder.answers(to: questions, prefix: prefix.flattened(from: 1, to: 2), prefixMask: mask)
    }

    /// Sines and cosines of row and column, a quarter of the width each, at frequencies from 1 down to 1/16: [N, C].
    private static func sines(_ grid: VisualTokens.Grid, width: Int) -> Tensor {
        let quarter = width / 4
        let frequencies = (0..<quarter).map { pow(16, -Double($0) / Double(max(1, quarter - 1))) }
        var values: [Float] = []
        values.reserveCapacity(grid.count * width)
        for row in 0..<grid.rows {
            for column in 0..<grid.columns {
                for place in [row, column] {
                    values += frequencies.map { Float(sin(Double(place) * $0)) }
                    values += frequencies.map { Float(cos(Double(place) * $0)) }
                }
            }
        }
        return Tensor(values, shape: [grid.count, width])
    }
}
