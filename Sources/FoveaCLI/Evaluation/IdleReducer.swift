import Fovea

/// A reducer that decides and then takes nothing away: what reading takes more with it than without is the decision's.
struct IdleReducer: LayerReducer {
    private let base: any LayerReducer

    init(_ base: any LayerReducer) { self.base = base }

    func seat(inLayer layer: Int) -> LayerSeat? { base.seat(inLayer: layer) }

    func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap] { base.taps(inLayer: layer, for: tokens) }

    func entering(_ tokens: LayerTokens) -> LayerTokens { base.entering(tokens) }

    func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        _ = base.reduced(tokens, inLayer: layer, attention: attention)
        return tokens
    }
}
