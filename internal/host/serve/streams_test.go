package serve

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/handoff"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

func TestWhatCameOfAStreamThatAnotherProcessHoldsIsAskedNoLongerThanSomebodyWaits(t *testing.T) {
	holder, err := handoff.Listen()
	btrfstest.Check(t, err)
	defer holder.Close()
	asked, held := make(chan struct{}), make(chan struct{})
	defer close(held)
	go holder.Serve(func(c *handoff.Conn, _ wire.Raw) {
		close(asked)
		<-held
		c.Close()
	})
	name := protocol.StreamName{Address: holder.Address, Secret: "secret"}
	s := &server{streams: map[string]*stream{}}
	s.remember(&stream{name: name})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() {
		<-asked
		cancel()
	}()
	if _, err := s.closeStream(ctx, name); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
}
