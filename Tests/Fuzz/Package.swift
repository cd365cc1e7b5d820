// swift-tools-version: 6.2
import PackageDescription

/// Coverage-guided fuzzing of everything that reads a file: `make fuzz`. A package of its own, so that nothing else ever
/// links libFuzzer, and that only here everything below is instrumented.
let package = Package(
    name: "FoveaFuzz",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(name: "Fovea", path: "../.."),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        .executableTarget(
            name: "FuzzReaders",
            // The sources of the recipes stand here as links: nothing can depend on a command line.
            dependencies: [.product(name: "Fovea", package: "Fovea"), .product(name: "Yams", package: "Yams")],
            // What builds a run out of a recipe; it needs more of the command line.
            exclude: [
                "Experiment", "ExperimentData", "InjectionSection", "ModelDesign", "QuestionExperiment",
                "RunnableExperiment", "StartingWeights",
            ].map { "Recipe/\($0).swift" },
            swiftSettings: [.unsafeFlags(["-parse-as-library"])],
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer,address"])])
    ],
    swiftLanguageModes: [.v6]
)
