package local

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

const program = "btrfs"

type format = sendstream.Format

// StockFormat asks the btrfs program, once.
func (h *Host) StockFormat(ctx context.Context) (sendstream.Format, error) {
	h.asked.Lock()
	defer h.asked.Unlock()
	if h.format != nil {
		return *h.format, nil
	}
	out, err := h.run(false).Output(ctx, program, "--version")
	if err != nil {
		return format{}, err
	}
	best, err := formatOf(out)
	if err == nil {
		h.format = &best
	}
	return best, err
}

// formatOf gives the best format of the btrfs program that printed its version. Protocol 2 came with btrfs-progs 6.0.
func formatOf(version string) (sendstream.Format, error) {
	major, err := majorVersion(version)
	if err != nil || major < 6 {
		return format{Protocol: 1}, err
	}
	return format{Protocol: 2, Compressed: true}, nil
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

// protocolFile came with protocol 2 in Linux 6.0.
const protocolFile = "/sys/fs/btrfs/features/send_stream_version"

// kernelProtocol gives the highest protocol of the kernel.
var kernelProtocol = sync.OnceValue(func() int {
	content, err := os.ReadFile(protocolFile)
	version, convErr := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || convErr != nil {
		return 1
	}
	return version
})
