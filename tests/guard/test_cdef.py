# SPDX-License-Identifier: BSD-2-Clause
"""The cdef against the installed libbpf headers: in cffi's ABI mode a wrong declaration would crash, not complain."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
CDEF = (ROOT / "pyebpf" / "core" / "libbpf.cdef.h").read_text()

# Declared otherwise on purpose: a pad that cffi can't name as a bit field, a member that libbpf makes a union.
DIFFERS = ("struct bpf_object_open_opts", "struct btf_type")


def test_compiles_against_the_headers(tmp_path: Path) -> None:
    text = CDEF
    for name in DIFFERS:  # layout is checked below, by hand
        start = text.index(name + " {")
        text = text[:start] + name + " { ...; };" + text[text.index("};", start) + 2 :]
    text = text.replace("void *libbpf_set_print(void *print_fn);", "")
    for ours, kernels in (("uint8_t", "unsigned char"), ("uint32_t", "unsigned int"), ("int32_t", "int"),
                          ("uint64_t", "unsigned long long")):  # fmt: skip
        text = text.replace(f"typedef {ours} ", f"typedef {kernels} ")
    ffi = FFI()
    ffi.cdef(text)
    ffi.set_source(
        "_cdef_check",
        "#include <bpf/bpf.h>\n#include <bpf/libbpf.h>\n#include <bpf/btf.h>\n",
        libraries=["bpf"],
        extra_compile_args=["-Werror=incompatible-pointer-types", "-Werror=implicit-function-declaration"],
    )
    ffi.compile(tmpdir=str(tmp_path))


def test_options_layout(tmp_path: Path) -> None:
    """The struct with the unnamed bit field lies as cffi believes."""
    import subprocess

    ffi = FFI()
    ffi.cdef(CDEF)
    fields = ("object_name", "relaxed_maps", "pin_root_path", "kconfig", "btf_custom_path", "kernel_log_buf",
              "kernel_log_size", "kernel_log_level")  # fmt: skip
    checks = "".join(
        f'_Static_assert(offsetof(struct bpf_object_open_opts, {field}) == '
        f'{ffi.offsetof("struct bpf_object_open_opts", field)}, "{field}");\n'
        for field in fields
    )
    size = ffi.sizeof("struct bpf_object_open_opts")
    checks += f'_Static_assert(sizeof(struct bpf_object_open_opts) == {size}, "size");\n'
    source = tmp_path / "check.c"
    source.write_text(f"#include <stddef.h>\n#include <bpf/libbpf.h>\n{checks}")
    subprocess.run(["cc", "-fsyntax-only", str(source)], check=True)
