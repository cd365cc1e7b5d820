extension Duration {
    /// In seconds, as a number to reckon with.
    package var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
