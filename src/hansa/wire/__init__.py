"""How values become bytes and cross a network.

codec, encoder, decoder    a value as an envelope and blobs, and back
structure, placing         the two halves of encoding: the tagged JSON, and where tensors go
tables, sources            the two halves of decoding: which tensor lies where, and whose memory it gets
blobs, dtypes, classes     tensors in bulk; the closed tables of dtypes and classes
buffers                    memory for copies that is used again
message, limits            the bytes of an envelope and of a frame; what a message may ask for
open_ports                 free TCP ports
"""
