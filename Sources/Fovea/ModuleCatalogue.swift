import FoveaCompression
import FoveaModels
import FoveaNN

/// Every module that has a published form, and the small ones that they are built of.
///
/// The one list behind `fovea apply`, `fovea modules` and `fovea gradcheck`.
public enum ModuleCatalogue {
    /// The methods, the models, then the layers.
    public static let entries: [ModuleEntry] = [
        PerceiverResampler.entry, GatedCrossAttention.entry, QFormer.entry, QFormerConnector.entry, PatchMerger.entry,
        MLPProjector.entry, SpatialPool.entry, AnyResolution.entry, PixelShuffle.entry, CAbstractor.entry, LDP.entry,
        TokenPacker.entry, HyperSelfAttention.entry, VLoRA.entry,
        ToMe.entry, FastV.entry, PruMerge.entry, VisionZip.entry, SparseVLM.entry, PyramidDrop.entry, DivPrune.entry,
        CDPruner.entry, MustDropMerge.entry, MustDropKeys.entry, MustDropFilter.entry, MustDropCache.entry,
        FiCoCoV.entry, FiCoCoL.entry, FocusLLaVA.visionSamplerEntry, FocusTextSampler.entry, Downsample.entry,
        AveragePooling.entry, RandomSelection.entry, UniformSelection.entry,
        CompressorClassifier<PerceiverResampler>.entry, VisionEncoder.entry, LanguageModel.entry,
        VisionLanguageModel<CompactEncoder, MLPProjector>.entry,
        Linear.entry, LayerNorm.entry, RMSNorm.entry, MLP.entry, GatedMLP.entry, MultiHeadAttention.entry,
        SelfAttention.entry, TransformerBlock.entry, PatchEmbedding.entry, Convolution2D.entry, ConvolutionalStem.entry,
        PoolingStem.entry, LayerNorm2D.entry, SqueezeExcitation.entry,
    ]

    /// The entry of this name.
    public static func entry(_ name: String) -> ModuleEntry? { entries.first { $0.name == name } }
}
