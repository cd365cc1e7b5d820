import OrderedCollections

extension OrderedDictionary where Key == String {
    /// Where a path stands, looked for at `place` first, which becomes the one behind it. A walk over a module asks in the order in
    /// which its gradients and moments stand, and is mostly saved a look-up by hash.
    @inlinable
    package func index(of path: String, at place: inout Int) -> Int? {
        let found = place < count && keys[place] == path ? place : index(forKey: path)
        if let found { place = found + 1 }
        return found
    }
}
