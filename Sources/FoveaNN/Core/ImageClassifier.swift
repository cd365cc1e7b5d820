import FoveaTensor

/// A model that gives class scores for pictures, or for features of them: what a classification run trains and evaluates.
public protocol ImageClassifier: Module {
    /// Pictures [B, channels, height, width] → logits [B, classes], or [B, K, classes] where K things are read in each.
    func callAsFunction(_ images: Tensor) -> Tensor
}
