#!/bin/sh
# Builds what is deployed: one zip with the function's static binary, s.yaml, sample events and RAM documents. It can be
# uploaded as the function's code as it is, and whoever unpacks it deploys without Rust (README, "Deploy it").
#
#   sh build.sh                  builds, and writes pkg/appsnap.zip
#   sh build.sh BINARY [ZIP]     packs a binary that is there
#
# Building needs Rust with `rustup target add x86_64-unknown-linux-musl`, and musl-gcc (Debian: musl-tools) for the C
# parts of the TLS library; packing needs python3 (not zip: python3 sets times and modes, whatever the machine's are).
# The same files give the same zip, byte by byte, as long as python3's zlib is the same.
set -eu

cd "$(dirname "$0")"
triple=x86_64-unknown-linux-musl # Function Compute's custom runtimes are x86_64
binary=${1:-${CARGO_TARGET_DIR:-target}/$triple/function/bootstrap}
if [ $# = 0 ]; then
    # The binary names neither who built it nor where.
    cargo build --profile function --locked --target $triple --bin bootstrap --config "target.$triple.rustflags = [
        '--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo', '--remap-path-prefix=$PWD=/appsnap']"
fi

exec python3 - "$binary" "${2:-pkg/appsnap.zip}" <<'PYTHON'
import hashlib, os, pathlib, struct, sys, zipfile

binary, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
TEXTS = ["LICENSE", "README.md", "s.yaml"] + sorted(
    str(path) for place in ("events", "policies") for path in pathlib.Path(place).iterdir())


def interpreter(elf):
    """Whether an ELF file asks for a dynamic linker; None: it is no program for x86_64."""
    if elf[:6] != b"\x7fELF\x02\x01" or len(elf) < 64 or struct.unpack_from("<H", elf, 18) != (62,):
        return None
    at, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    return any(struct.unpack_from("<I", elf, at + size * n) == (3,) for n in range(count))


if not binary.is_file():
    sys.exit(f"build.sh: {binary}: no such file")
program = binary.read_bytes()
dynamic = interpreter(program)
if dynamic is None:
    sys.exit(f"build.sh: {binary} is no program for Linux on x86_64")
if dynamic:
    sys.exit(f"build.sh: {binary} is not static: it would need the image's C library; build it without arguments")

out.parent.mkdir(parents=True, exist_ok=True)
part = out.with_suffix(".part")
with zipfile.ZipFile(part, "w") as archive:
    for name in ["bootstrap", *TEXTS]:
        entry = zipfile.ZipInfo(name)  # its time is 1980-01-01
        entry.create_system = 3  # Unix: the mode counts
        entry.external_attr = (0o100755 if name == "bootstrap" else 0o100644) << 16
        data = program if name == "bootstrap" else pathlib.Path(name).read_bytes()
        archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
os.replace(part, out)
for what, path in ("bootstrap", binary), ("", out):
    print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {what or path}")
print(f"{out}: {out.stat().st_size / 1048576:.2f} MiB")
PYTHON
