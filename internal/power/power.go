// Package power tells whether this machine runs on battery, or pays for what it sends, and keeps it awake.
//
// The bus of the system, logind and NetworkManager are asked if they are there; nothing is started to ask it, and no job fails by them.
//
// A suspend does no harm to a backup: the kernel begins an interrupted send stream again in the middle of it, which is
// noticed, and a lost connection is resumed. It takes time, and on a laptop that suspends when nobody types, a long first
// backup would never end. So sleep is blocked, not delayed: a delay ends after 5 seconds (InhibitDelayMaxSec), in which no
// transfer ends. The user has the last word: closing the lid suspends, as does `systemctl suspend --ignore-inhibitors`.
package power

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Supplies is where the kernel tells of power supplies.
const Supplies = "/sys/class/power_supply"

// OnBattery tells that the machine runs on battery: no supply has power from outside, and a battery of the machine, not of its
// mouse, is discharging.
func OnBattery(supplies string) (bool, error) {
	dirs, err := os.ReadDir(supplies)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("looking for batteries: %w", err)
	}
	discharging := false
	for _, dir := range dirs {
		value := func(name string) string {
			content, _ := os.ReadFile(filepath.Join(supplies, dir.Name(), name)) // one may be pulled meanwhile
			return strings.TrimSpace(string(content))
		}
		switch {
		case value("scope") == "Device":
		case value("type") == "Battery":
			discharging = discharging || value("status") == "Discharging"
		case value("online") != "" && value("online") != "0":
			return false, nil
		}
	}
	return discharging, nil
}

// patience is how long the bus may take to answer.
const patience = 5 * time.Second

// Metered tells that NetworkManager knows, or guesses, that the connection costs by volume.
func Metered(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return false, nil // so there is no NetworkManager, either
	}
	defer bus.Close()
	const manager = "org.freedesktop.NetworkManager"
	var metered uint32
	err = bus.Object(manager, "/org/freedesktop/NetworkManager").
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, manager, "Metered").Store(&metered)
	if refusal := (dbus.Error{}); errors.As(err, &refusal) && isAbsent(refusal.Name) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking NetworkManager whether the connection is metered: %w", err)
	}
	const yes, guessYes = 1, 3 // NMMetered of its documentation
	return metered == yes || metered == guessYes, nil
}

func isAbsent(name string) bool {
	return name == "org.freedesktop.DBus.Error.ServiceUnknown" || name == "org.freedesktop.DBus.Error.NameHasNoOwner"
}

// KeepAwake keeps the machine from going to sleep until it is released or the process ends. why completes "sleep is blocked
// since". It holds nothing up: logind is asked meanwhile.
func KeepAwake(log *slog.Logger, why string) (release func()) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		lock, err := inhibit(ctx, why)
		if err != nil {
			log.Debug(fmt.Sprintf("the machine may go to sleep meanwhile: %v", err))
			return
		}
		log.Debug("the machine does not go to sleep meanwhile")
		<-ctx.Done()
		lock.Close()
	}()
	return cancel
}

// inhibit gives a file that blocks sleep while it is open.
func inhibit(ctx context.Context, why string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	var fd dbus.UnixFD
	err = bus.Object("org.freedesktop.login1", "/org/freedesktop/login1").
		CallWithContext(ctx, "org.freedesktop.login1.Manager.Inhibit", dbus.FlagNoAutoStart, "sleep", "btrfs-backup", why, "block").Store(&fd)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "sleep inhibitor"), nil
}
