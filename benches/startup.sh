#!/bin/sh
# What a cold start costs: size of the function's binary, time from exec to the first answered POST /invoke, memory
# when idle afterwards. Any answer counts, a refusal too. Needs python3 and Linux.
#
#   benches/startup.sh [BINARY [RUNS]]
set -eu

binary=${1:-target/release/bootstrap}
runs=${2:-21}
if [ ! -x "$binary" ]; then
    echo "startup.sh: $binary: no such program; build it first: cargo build --release --bin bootstrap" >&2
    exit 2
fi

exec python3 - "$binary" "$runs" <<'PYTHON'
import os, re, signal, socket, statistics, subprocess, sys, time

binary, runs = os.path.abspath(sys.argv[1]), int(sys.argv[2])
REQUEST = (b"POST /invoke HTTP/1.1\r\nhost: localhost\r\nx-fc-request-id: startup\r\n"
           b"x-fc-function-timeout: 60\r\ncontent-length: 2\r\n\r\n{}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def answered(port, process):
    """Status line of the first answer."""
    while process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(REQUEST)
                return connection.recv(65536).split(b"\r\n")[0].decode()
        except ConnectionRefusedError:
            time.sleep(0.0002)
    sys.exit(f"startup.sh: {binary} ended with {process.returncode} before it answered")


def kilobytes(pid, field):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return int(re.search(rf"^{field}:\s+(\d+) kB", rollup.read(), re.M)[1])


times, rss, pss = [], [], []
for _ in range(runs):
    port = free_port()
    environment = {"FC_SERVER_PORT": str(port), "PATH": os.environ["PATH"]}
    began = time.perf_counter()
    process = subprocess.Popen([binary], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        status = answered(port, process)
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(0.2)
        rss.append(kilobytes(process.pid, "Rss"))
        pss.append(kilobytes(process.pid, "Pss"))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()

print(f"binary              {binary}")
print(f"size                {os.path.getsize(binary) / 1048576:.2f} MiB")
print(f"exec to answer      {statistics.median(times):.1f} ms median, {min(times):.1f} to {max(times):.1f} ms, "
      f"{runs} runs ({status})")
print(f"idle memory         {statistics.median(rss) / 1024:.2f} MiB RSS, {statistics.median(pss) / 1024:.2f} MiB PSS")
PYTHON
