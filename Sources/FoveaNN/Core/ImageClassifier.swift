import FoveaTensor

/// A model that gives class scores for pictures: what a classification run trains and evaluates.
public protocol ImageClassifier: Module {
    /// Pictures [B, channels, height, width] → logits [B, classes].
    func callAsFunction(_ images: Tensor) -> Tensor
}
