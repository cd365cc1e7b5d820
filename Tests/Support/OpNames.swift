import FoveaTensor
import Testing

extension Op: CustomTestStringConvertible {
    /// What a test case that is given this op is called.
    public var testDescription: String { name }
}
