"""Structures of a minidump file: handles, tokens, dynamic function tables."""

from __future__ import annotations

from ctypes import c_uint32, c_uint64

from .layout import Packed


class MINIDUMP_HANDLE_OBJECT_INFORMATION(Packed):
    """What is known about a handle's object: a chain of records by MINIDUMP_..._TYPE.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_handle_object_information
    """

    _fields_ = (("NextInfoRva", c_uint32), ("InfoType", c_uint32), ("SizeOfInfo", c_uint32))


class MINIDUMP_HANDLE_DESCRIPTOR(Packed):
    """An open handle.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_handle_descriptor
    """

    _fields_ = (
        ("Handle", c_uint64),
        ("TypeNameRva", c_uint32),
        ("ObjectNameRva", c_uint32),
        ("Attributes", c_uint32),
        ("GrantedAccess", c_uint32),
        ("HandleCount", c_uint32),
        ("PointerCount", c_uint32),
    )


class MINIDUMP_HANDLE_DESCRIPTOR_2(Packed):
    """An open handle and where its object's information is.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_handle_descriptor_2
    """

    _fields_ = (
        *MINIDUMP_HANDLE_DESCRIPTOR._fields_,
        ("ObjectInfoRva", c_uint32),
        ("Reserved0", c_uint32),
    )


class MINIDUMP_HANDLE_DATA_STREAM(Packed):
    """HandleDataStream; SizeOfDescriptor tells the two forms of descriptor apart.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_handle_data_stream
    """

    _fields_ = (
        ("SizeOfHeader", c_uint32),
        ("SizeOfDescriptor", c_uint32),
        ("NumberOfDescriptors", c_uint32),
        ("Reserved", c_uint32),
    )


class MINIDUMP_HANDLE_OPERATION_LIST(Packed):
    """HandleOperationListStream: AVRF_HANDLE_OPERATION records of Application Verifier.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_handle_operation_list
    """

    _fields_ = (
        ("SizeOfHeader", c_uint32),
        ("SizeOfEntry", c_uint32),
        ("NumberOfEntries", c_uint32),
        ("Reserved", c_uint32),
    )


class MINIDUMP_TOKEN_INFO_HEADER(Packed):
    """A token; TokenSize bytes of it follow, this head included.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (("TokenSize", c_uint32), ("TokenId", c_uint32), ("TokenHandle", c_uint64))


class MINIDUMP_TOKEN_INFO_LIST(Packed):
    """TokenStream.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/
    """

    _fields_ = (
        ("TokenListSize", c_uint32),
        ("TokenListEntries", c_uint32),
        ("ListHeaderSize", c_uint32),
        ("ElementHeaderSize", c_uint32),
    )


class MINIDUMP_FUNCTION_TABLE_DESCRIPTOR(Packed):
    """A dynamic function table; its native descriptor and entries follow.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_function_table_descriptor
    """

    _fields_ = (
        ("MinimumAddress", c_uint64),
        ("MaximumAddress", c_uint64),
        ("BaseAddress", c_uint64),
        ("EntryCount", c_uint32),
        ("SizeOfAlignPad", c_uint32),
    )


class MINIDUMP_FUNCTION_TABLE_STREAM(Packed):
    """FunctionTableStream.

    https://learn.microsoft.com/windows/win32/api/minidumpapiset/ns-minidumpapiset-minidump_function_table_stream
    """

    _fields_ = (
        ("SizeOfHeader", c_uint32),
        ("SizeOfDescriptor", c_uint32),
        ("SizeOfNativeDescriptor", c_uint32),
        ("SizeOfFunctionEntry", c_uint32),
        ("NumberOfDescriptors", c_uint32),
        ("SizeOfAlignPad", c_uint32),
    )
