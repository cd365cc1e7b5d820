/// The folder that a path is in; `.` for a name alone, `/` for itself. NSString's own takes no name of one letter on Linux, and URL's
/// goes on above the root.
package func parentFolder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}
