// `import Fovea` is all that a user writes.
@_exported import FoveaCompression
@_exported import FoveaData
@_exported import FoveaIO
@_exported import FoveaModels
@_exported import FoveaNN
@_exported import FoveaTensor
@_exported import FoveaTraining
