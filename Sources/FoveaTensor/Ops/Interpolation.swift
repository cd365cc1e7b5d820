// MARK: interpolation

extension Op {
    public static let bilinearInterpolation = Op(
        "bilinearInterpolation", "images in another size, blended linearly", linearIn: [0]
    ) {
        [
            OpSample("up", [$0.uniform([1, 2, 3, 4])]) { $0[0].interpolatedBilinear(to: Size2D(5, 7)) },
            OpSample("down", [$0.uniform([2, 1, 5, 6])]) { $0[0].interpolatedBilinear(to: Size2D(2, 4)) },
            OpSample("corners up", [$0.uniform([1, 2, 3, 4])]) {
                $0[0].interpolatedBilinear(to: Size2D(5, 7), alignCorners: true)
            },
            OpSample("corners down", [$0.uniform([1, 1, 5, 6])]) {
                $0[0].interpolatedBilinear(to: Size2D(1, 4), alignCorners: true)
            },
            OpSample("view", [$0.uniform([4, 3, 2, 1]).permuted(to: [3, 2, 1, 0])]) {
                $0[0].interpolatedBilinear(to: Size2D(5, 7))
            },
            OpSample("empty", [$0.uniform([0, 2, 3, 4])]) { $0[0].interpolatedBilinear(to: Size2D(5, 7)) },
        ]
    }
    public static let bicubicInterpolation = Op(
        "bicubicInterpolation", "images in another size, blended by cubics", linearIn: [0]
    ) {
        [
            OpSample("up", [$0.uniform([1, 2, 3, 4])]) { $0[0].interpolatedBicubic(to: Size2D(5, 7)) },
            OpSample("down", [$0.uniform([2, 1, 5, 6])]) { $0[0].interpolatedBicubic(to: Size2D(2, 4)) },
            OpSample("one pixel", [$0.uniform([1, 1, 1, 2])]) { $0[0].interpolatedBicubic(to: Size2D(3, 3)) },
            OpSample("view", [$0.uniform([4, 3, 2, 1]).permuted(to: [3, 2, 1, 0])]) {
                $0[0].interpolatedBicubic(to: Size2D(5, 7))
            },
            OpSample("empty", [$0.uniform([0, 2, 3, 4])]) { $0[0].interpolatedBicubic(to: Size2D(5, 7)) },
        ]
    }
    public static let nearestInterpolation = Op(
        "nearestInterpolation", "images in another size, pixels repeated", linearIn: [0]
    ) {
        [
            OpSample("up", [$0.uniform([1, 2, 3, 4])]) { $0[0].interpolatedNearest(to: Size2D(5, 7)) },
            OpSample("down", [$0.uniform([2, 1, 5, 6])]) { $0[0].interpolatedNearest(to: Size2D(2, 4)) },
            OpSample("empty", [$0.uniform([0, 2, 3, 4])]) { $0[0].interpolatedNearest(to: Size2D(5, 7)) },
        ]
    }
}

extension Tensor {
    /// [B, C, H, W] → [B, C, size], blended from the four nearest pixels; no filter against aliasing. PyTorch's
    /// `interpolate(mode: "bilinear", size: …)`, without its `scale_factor`. A pixel with weight 0 does not count, where
    /// PyTorch lets its NaN or infinity through.
    ///
    /// - Parameters:
    ///   - size: height and width of the result.
    ///   - alignCorners: whether the centres of the corner pixels stay in place rather than the image's edges.
    public func interpolatedBilinear(to size: Size2D, alignCorners: Bool = false) -> Tensor {
        requireImages("bilinearInterpolation")
        requirePixels(size, "bilinearInterpolation")
        func along(_ length: Int, _ outLength: Int) -> Resampling {
            let step =
                alignCorners
                ? (outLength > 1 ? Double(length - 1) / Double(outLength - 1) : 0)
                : Double(length) / Double(outLength)
            return Resampling(
                length: length,
                (0..<outLength).map { output in
                    let place =
                        alignCorners ? Double(output) * step : Swift.max(0, (Double(output) + 0.5) * step - 0.5)
                    let first = Swift.min(Int(place), length - 1)
                    let share = place - Double(first)
                    return share > 0 && first + 1 < length ? (first, [1 - share, share]) : (first, [1])
                })
        }
        return resampled(
            along(shape[2], size.height), along(shape[3], size.width), by: .bilinearInterpolation)
    }

    /// [B, C, H, W] → [B, C, size], blended from the four nearest pixels of each axis by the cubic convolution of Keys
    /// with a = −0.75; the edge's pixels go on beyond it, and no filter acts against aliasing. PyTorch's
    /// `interpolate(mode: "bicubic", size: …)`. (Keys, "Cubic convolution interpolation for digital image processing",
    /// 1981.)
    public func interpolatedBicubic(to size: Size2D) -> Tensor {
        requireImages("bicubicInterpolation")
        requirePixels(size, "bicubicInterpolation")
        let a = -0.75
        /// The weights of the pixels before, at, behind and two behind a place `t` of the way to the next one.
        func weights(_ t: Double) -> [Double] {
            func near(_ x: Double) -> Double { ((a + 2) * x - (a + 3)) * x * x + 1 }
            func far(_ x: Double) -> Double { ((a * x - 5 * a) * x + 8 * a) * x - 4 * a }
            return [far(t + 1), near(t), near(1 - t), far(2 - t)]
        }
        func along(_ length: Int, _ outLength: Int) -> Resampling {
            let step = Double(length) / Double(outLength)
            return Resampling(
                length: length,
                (0..<outLength).map { output in
                    let place = (Double(output) + 0.5) * step - 0.5
                    let base = Int(place.rounded(.down))
                    let pixels = (base - 1...base + 2).map { Swift.min(Swift.max($0, 0), length - 1) }
                    // What lies beyond the edge counts for the pixel at the edge.
                    var shares = [Double](repeating: 0, count: pixels[3] - pixels[0] + 1)
                    for (pixel, weight) in zip(pixels, weights(place - Double(base))) {
                        shares[pixel - pixels[0]] += weight
                    }
                    return (pixels[0], shares)
                })
        }
        return resampled(along(shape[2], size.height), along(shape[3], size.width), by: .bicubicInterpolation)
    }

    /// [B, C, H, W] → [B, C, size]: output i takes the pixel ⌊i · H / size⌋. PyTorch's `interpolate(mode: "nearest")`, in
    /// whole numbers where PyTorch rounds the ratio to float32.
    public func interpolatedNearest(to size: Size2D) -> Tensor {
        requireImages("nearestInterpolation")
        requirePixels(size, "nearestInterpolation")
        func along(_ length: Int, _ outLength: Int) -> Resampling {
            Resampling(length: length, (0..<outLength).map { ($0 * length / outLength, [1]) })
        }
        return resampled(along(shape[2], size.height), along(shape[3], size.width), by: .nearestInterpolation)
    }

    func requirePixels(_ size: Size2D, _ op: String) {
        guard size.height > 0, size.width > 0 else {
            trap(op, "\(size.height) × \(size.width) is no size of an image", self)
        }
    }
}
