package volume

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"btrfs-backup/internal/engine"
	"btrfs-backup/transport"
)

// progs is what is known of the btrfs program. It is asked once.
var progs struct {
	sync.Mutex
	format *engine.Format
}

// bestFormat gives the best format that the btrfs program can send and receive. Protocol 2 came with btrfs-progs 6.0.
func bestFormat(ctx context.Context, on transport.Local) (engine.Format, error) {
	progs.Lock()
	defer progs.Unlock()
	if progs.format != nil {
		return *progs.format, nil
	}
	out, err := on.Output(ctx, program, "--version")
	if err != nil {
		return engine.Format{}, senderError(err)
	}
	major, err := majorVersion(out)
	if err != nil {
		return engine.Format{}, err
	}
	best := engine.Format{Protocol: 1}
	if major >= 6 {
		best = engine.Format{Protocol: 2, Compressed: true}
	}
	progs.format = &best
	return best, nil
}

// majorVersion reads what `btrfs --version` prints: "btrfs-progs v6.2", and more lines in newer versions.
func majorVersion(out string) (int, error) {
	_, version, _ := strings.Cut(out, "btrfs-progs v")
	digits, _, _ := strings.Cut(version, ".")
	major, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("the version of btrfs-progs cannot be read from %q", out)
	}
	return major, nil
}

// kernelProtocol gives the highest protocol of the kernel. The file came with protocol 2 in Linux 6.0.
var kernelProtocol = sync.OnceValue(func() int {
	content, err := os.ReadFile("/sys/fs/btrfs/features/send_stream_version")
	version, convErr := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || convErr != nil {
		return 1
	}
	return version
})
