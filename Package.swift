// swift-tools-version: 6.2
import PackageDescription

/// The house: every target names only targets of the floors below it (docs/architecture.md).
let package = Package(
    name: "Fovea",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "Fovea", targets: ["Fovea"]),
        .executable(name: "fovea", targets: ["FoveaCLI"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ] + documentationPlugin,
    targets: [
        // Floor 0: the system's libraries.
        .systemLibrary(
            name: "COpenBLAS", pkgConfig: "openblas",
            providers: [.apt(["libopenblas-dev", "liblapack-dev"]), .brew(["openblas"])]),
        .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"]), .brew(["libpng"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"]), .brew(["zlib"])]),

        // Floor 1: loops in C. Debug builds optimise this target alone, so that tests run at full speed.
        .target(
            name: "CKernels", dependencies: [.target(name: "COpenBLAS", condition: .when(platforms: [.linux]))],
            cSettings: [
                .define("ACCELERATE_NEW_LAPACK", .when(platforms: [.macOS])),
                .unsafeFlags(["-O3"], .when(configuration: .debug)),
            ],
            linkerSettings: [.linkedFramework("Accelerate", .when(platforms: [.macOS]))]),

        // Floor 2: tensors and gradients.
        .target(name: "FoveaTensor", dependencies: ["CKernels"]),

        // Floor 3: file formats.
        .target(
            name: "FoveaIO",
            dependencies: [
                "FoveaTensor", "CPNG", "CZlib",
                .product(name: "OrderedCollections", package: "swift-collections"),
            ]),

        // Floor 4: modules.
        .target(
            name: "FoveaNN",
            dependencies: ["FoveaIO", .product(name: "OrderedCollections", package: "swift-collections")]),

        // Floor 5: the methods, and training.
        .target(name: "FoveaCompression", dependencies: ["FoveaNN"]),
        .target(
            name: "FoveaTraining",
            dependencies: ["FoveaNN", .product(name: "OrderedCollections", package: "swift-collections")]),

        // Floor 6: whole models, and datasets.
        .target(name: "FoveaModels", dependencies: ["FoveaCompression"]),
        .target(
            name: "FoveaData",
            dependencies: ["FoveaTraining", .product(name: "OrderedCollections", package: "swift-collections")]),

        // Floor 7: `import Fovea`.
        .target(name: "Fovea", dependencies: ["FoveaModels", "FoveaData"]),

        // Floor 8: the command line.
        .executableTarget(
            name: "FoveaCLI",
            dependencies: [
                "Fovea",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Yams", package: "Yams"),
            ]),

        // Tests, floor by floor, and what they share.
        .target(name: "FoveaTestSupport", dependencies: ["FoveaTensor"], path: "Tests/Support"),
        .testTarget(name: "FoveaTensorTests", dependencies: ["FoveaTensor", "FoveaTestSupport"]),
        .testTarget(name: "FoveaIOTests", dependencies: ["FoveaIO"]),
        .testTarget(
            name: "FoveaNNTests",
            dependencies: [
                "FoveaNN", "FoveaTestSupport", .product(name: "OrderedCollections", package: "swift-collections"),
            ]),
        .testTarget(name: "FoveaCompressionTests", dependencies: ["FoveaCompression", "FoveaTestSupport"]),
        .testTarget(
            name: "FoveaTrainingTests",
            dependencies: ["FoveaData", .product(name: "OrderedCollections", package: "swift-collections")]),
        .testTarget(name: "FoveaModelsTests", dependencies: ["FoveaModels", "FoveaTestSupport"]),
        .testTarget(name: "FoveaTests", dependencies: ["Fovea", "FoveaTestSupport"]),
        // The command line is tested from outside, as the program that it is.
        .testTarget(name: "FoveaCLITests", dependencies: ["FoveaCLI", "Fovea"]),
    ],
    swiftLanguageModes: [.v6]
)

/// The documentation plugin is asked for by `make docs` alone: who builds or depends on Fovea never resolves it.
var documentationPlugin: [Package.Dependency] {
    Context.environment["FOVEA_DOCS"] == nil
        ? [] : [.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0")]
}
