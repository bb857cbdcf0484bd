package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (d *dir) Freed(ctx context.Context, groups [][]string, within time.Duration) ([]int64, error) {
	freed, err := protocol.Freed.Call(ctx, d.host, protocol.FreedCall{Dir: d.name(), Groups: groups, Within: within})
	if err == nil && len(freed) != len(groups) {
		return nil, fmt.Errorf("%s: the answer about space in %s is malformed", d.host, d.status.Path)
	}
	return freed, err
}
