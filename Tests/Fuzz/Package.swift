// swift-tools-version: 6.2
import PackageDescription

/// Coverage-guided fuzzing of everything that reads a file: `make fuzz`. A package of its own, so that nothing else ever
/// links libFuzzer, and that only here everything below is instrumented.
let package = Package(
    name: "FoveaFuzz",
    platforms: [.macOS(.v15)],
    dependencies: [.package(name: "Fovea", path: "../..")],
    targets: [
        .executableTarget(
            name: "FuzzReaders",
            dependencies: [.product(name: "Fovea", package: "Fovea")],
            // The main function is libFuzzer's.
            swiftSettings: [.unsafeFlags(["-parse-as-library"])],
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer,address"])])
    ],
    swiftLanguageModes: [.v6]
)
