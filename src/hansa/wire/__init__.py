"""How values become bytes and cross a network.

codec, encoder, decoder    a value as an envelope and blobs, and back
structure, placing         the two halves of encoding: the tagged JSON, and where tensors go
tables, sources            the two halves of decoding: which tensor lies where, and whose memory it gets
blobs, dtypes, classes     tensors in bulk; the closed tables of dtypes and classes
buffers                    memory for copies that is used again
tensor_forms               NumPy arrays as torch tensors and back
message, limits            the bytes of an envelope and of a frame; what a message may ask for
local_link, local_frames   frames between processes of one machine
local_socket               where they connect
pipe                       frames between an agent and its job processes, read without NumPy
slots                      memory that they share by descriptor, used again
bundle, master             several messages in one frame; one message for many receivers
open_ports                 free TCP ports
"""
