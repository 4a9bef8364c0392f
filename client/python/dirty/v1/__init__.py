"""The contract's messages and stubs for grpcio, generated: `from dirty.v1 import arbiter_pb2_grpc, call_pb2`.

They need the packages protobuf and grpcio, which the client itself does not.
"""
