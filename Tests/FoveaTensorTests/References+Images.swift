import Foundation
import FoveaTensor

extension Reference {
    /// Ops on images: windows, other sizes, pixels and channels.
    static let images: [String: Reference] = [
        "pixelShuffle": moving { label, inputs in
            guard let r = ["twice": 2, "thrice": 3, "one": 1, "empty": 2][label] else { return nil }
            let x = inputs[0]
            return Grid([x.shape[0], x.shape[1] / (r * r), x.shape[2] * r, x.shape[3] * r]) { at in
                x[[at[0], at[1] * r * r + at[2] % r * r + at[3] % r, at[2] / r, at[3] / r]]
            }
        },
        "pixelUnshuffle": moving { label, inputs in
            guard let r = ["twice": 2, "thrice": 3, "one": 1, "empty": 2][label] else { return nil }
            let x = inputs[0]
            return Grid([x.shape[0], x.shape[1] * r * r, x.shape[2] / r, x.shape[3] / r]) { at in
                let corner = at[1] % (r * r)
                return x[[at[0], at[1] / (r * r), at[2] * r + corner / r, at[3] * r + corner % r]]
            }
        },
        "averagePooling": Reference((1e-12, 1), (8, 1)) { label, inputs in
            pooled(label, inputs[0]) { values, window in
                values.reduce(0, +) / Double(label == "padding" ? window : values.count)
            }
        },
        "maxPooling": moving { label, inputs in
            pooled(label, inputs[0]) { values, _ in values.reduce(-.infinity) { $0 < $1 ? $1 : $0 } }
        },
        "adaptiveAveragePooling": Reference((1e-12, 1), (8, 1)) { label, inputs in
            let sizes = ["even": (2, 3), "uneven": (3, 2), "larger": (3, 5), "one": (1, 1), "empty": (2, 2)]
            guard let (height, width) = sizes[label] else { return nil }
            let x = inputs[0]
            func span(_ index: Int, _ length: Int, _ count: Int) -> Range<Int> {
                let first = (Double(index) * Double(length) / Double(count)).rounded(.down)
                let end = (Double(index + 1) * Double(length) / Double(count)).rounded(.up)
                return Int(first)..<Int(end)
            }
            return Grid([x.shape[0], x.shape[1], height, width]) { at in
                let (rows, columns) = (span(at[2], x.shape[2], height), span(at[3], x.shape[3], width))
                var sum = 0.0
                for row in rows { for column in columns { sum += x[[at[0], at[1], row, column]] } }
                return sum / Double(rows.count * columns.count)
            }
        },
        "bilinearInterpolation": Reference((1e-12, 1), (8, 1)) { label, inputs in
            let sizes = [
                "up": (5, 7), "down": (2, 4), "corners up": (5, 7), "corners down": (1, 4), "view": (5, 7),
                "empty": (5, 7),
            ]
            guard let (height, width) = sizes[label] else { return nil }
            let x = inputs[0]
            func place(_ index: Int, _ length: Int, _ count: Int) -> Double {
                if label.hasPrefix("corners") {
                    return count == 1 ? 0 : Double(index * (length - 1)) / Double(count - 1)
                }
                return max(0, (Double(index) + 0.5) * Double(length) / Double(count) - 0.5)
            }
            // Each pixel counts by how near it is, as far as one pixel.
            return Grid([x.shape[0], x.shape[1], height, width]) { at in
                let (down, across) = (place(at[2], x.shape[2], height), place(at[3], x.shape[3], width))
                var (sum, total) = (0.0, 0.0)
                for row in 0..<x.shape[2] {
                    for column in 0..<x.shape[3] {
                        let near = max(0, 1 - (Double(row) - down).magnitude)
                        let weight = near * max(0, 1 - (Double(column) - across).magnitude)
                        sum += weight * x[[at[0], at[1], row, column]]
                        total += weight
                    }
                }
                return sum / total
            }
        },
        "bicubicInterpolation": Reference((1e-12, 1), (16, 1)) { label, inputs in
            let sizes = ["up": (5, 7), "down": (2, 4), "one pixel": (3, 3), "view": (5, 7), "empty": (5, 7)]
            guard let (height, width) = sizes[label] else { return nil }
            let x = inputs[0]
            /// Keys' piecewise cubic with a = −3/4, zero from distance 2 on.
            func cubic(_ distance: Double) -> Double {
                let d = distance.magnitude
                if d >= 2 { return 0 }
                let (square, cube) = (d * d, d * d * d)
                return d <= 1 ? 1.25 * cube - 2.25 * square + 1 : -0.75 * cube + 3.75 * square - 6 * d + 3
            }
            return Grid([x.shape[0], x.shape[1], height, width]) { at in
                let down = (Double(at[2]) + 0.5) * Double(x.shape[2]) / Double(height) - 0.5
                let across = (Double(at[3]) + 0.5) * Double(x.shape[3]) / Double(width) - 0.5
                var sum = 0.0
                // Two pixels more on each side, which repeat the edge.
                for row in -2...x.shape[2] + 1 {
                    let pixels = x.row(broadcast: [at[0], at[1], min(max(row, 0), x.shape[2] - 1)])
                    for column in -2...x.shape[3] + 1 {
                        let pixel = pixels[pixels.startIndex + min(max(column, 0), x.shape[3] - 1)]
                        sum += cubic(Double(row) - down) * cubic(Double(column) - across) * pixel
                    }
                }
                return sum
            }
        },
        "nearestInterpolation": moving { label, inputs in
            guard let (height, width) = ["up": (5, 7), "down": (2, 4), "empty": (5, 7)][label] else { return nil }
            let x = inputs[0]
            return Grid([x.shape[0], x.shape[1], height, width]) { at in
                let row = Int((Double(at[2]) * Double(x.shape[2]) / Double(height)).rounded(.down))
                let column = Int((Double(at[3]) * Double(x.shape[3]) / Double(width)).rounded(.down))
                return x[[at[0], at[1], row, column]]
            }
        },
        "convolution": summing(units: 8, floor: 32) { label, inputs in
            var (stride, padding, dilation, groups) = ((1, 1), (0, 0), (1, 1), 1)
            switch label {
            case "patches": stride = (2, 2)
            case "padding and dilation": (stride, padding, dilation) = ((2, 1), (2, 1), (2, 3))
            case "groups": groups = 2
            case "depthwise": (padding, groups) = ((1, 1), 3)
            case "plain", "pointwise", "view", "empty": break
            default: return nil
            }
            let (x, weight) = (inputs[0], inputs[1])
            let (own, outputs) = (weight.shape[1], weight.shape[0])
            let (height, width) = (weight.shape[2], weight.shape[3])
            let outHeight = (x.shape[2] + 2 * padding.0 - dilation.0 * (height - 1) - 1) / stride.0 + 1
            let outWidth = (x.shape[3] + 2 * padding.1 - dilation.1 * (width - 1) - 1) / stride.1 + 1
            return Grid([x.shape[0], outputs, outHeight, outWidth]) { at in
                var sum = inputs.count > 2 ? inputs[2].values[at[1]] : 0
                let group = at[1] / (outputs / groups)
                for channel in 0..<own {
                    for i in 0..<height {
                        for j in 0..<width {
                            let row = at[2] * stride.0 + i * dilation.0 - padding.0
                            let column = at[3] * stride.1 + j * dilation.1 - padding.1
                            guard (0..<x.shape[2]).contains(row), (0..<x.shape[3]).contains(column) else { continue }
                            sum += weight[[at[1], channel, i, j]] * x[[at[0], group * own + channel, row, column]]
                        }
                    }
                }
                return sum
            }
        },
        "rotaryEmbedding": Reference((1e-12, 1), (8, 2)) { label, inputs in
            let x = inputs[0]
            let (rank, width) = (x.shape.count, x.shape.last!)
            return Grid(x.shape) { at in
                let channel = at[rank - 1]
                let place: Double
                switch label {
                case "heads": place = [[0.5, 1, 2], [7, 3, 11]][at[0]][at[2]]
                case "vector": place = 3
                default: place = [0, 1, 5][at[rank - 2] % 3]
                }
                let pair = label == "interleaved" ? channel / 2 : channel % (width / 2)
                let isFirst = label == "interleaved" ? channel % 2 == 0 : channel < width / 2
                let base = label == "heads" ? 100.0 : 10_000
                let angle = place * Foundation.pow(base, -2 * Double(pair) / Double(width))
                var partner = at
                partner[rank - 1] += (label == "interleaved" ? 1 : width / 2) * (isFirst ? 1 : -1)
                return x[at] * Foundation.cos(angle) + x[partner] * Foundation.sin(angle) * (isFirst ? -1 : 1)
            }
        },
    ]

    /// The elements of each window of the samples of the poolings, without the padding, and the window's size.
    private static func pooled(_ label: String, _ x: Grid, _ reduce: ([Double], Int) -> Double) -> Grid {
        let isPadded = label.hasPrefix("padding")
        let (height, width) = isPadded ? (3, 2) : (2, 2)
        let (down, across) = isPadded ? (2, 1) : (2, 2)
        let padding = isPadded ? 1 : 0
        let rows = (x.shape[2] + 2 * padding - height) / down + 1
        let columns = (x.shape[3] + 2 * padding - width) / across + 1
        return Grid([x.shape[0], x.shape[1], rows, columns]) { at in
            var values: [Double] = []
            for row in at[2] * down - padding..<at[2] * down - padding + height {
                for column in at[3] * across - padding..<at[3] * across - padding + width {
                    if (0..<x.shape[2]).contains(row), (0..<x.shape[3]).contains(column) {
                        values.append(x[[at[0], at[1], row, column]])
                    }
                }
            }
            return reduce(values, height * width)
        }
    }
}
