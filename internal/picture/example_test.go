package picture

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
	"github.com/btrfs-backup/btrfs-backup/internal/underway"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

var (
	check = btrfstest.Check
	now   = time.Date(2026, 11, 29, 9, 41, 0, 0, time.Local)
)

// kept gives a place as a policy has it after daily backups of so many days.
func kept(destination, text string, days int) Place {
	policy := retention.Policy{}
	if text != "" {
		var err error
		if policy, err = retention.Parse(text); err != nil {
			panic(err)
		}
	}
	var all []retention.Snapshot
	for i := range days {
		at := time.Date(2026, 11, 29-i, 1, 31, i%60, 0, time.Local)
		all = append(all, retention.Snapshot{Name: at.Format("20060102-150405"), Time: at})
	}
	var left []retention.Snapshot
	for _, v := range retention.Decide(policy, now.AddDate(0, 0, -1), all) {
		for _, s := range all {
			if s.Name == v.Name && v.Keep {
				left = append(left, s)
			}
		}
	}
	free, newest := uint64(410<<30), all[0].Time
	p := Place{Place: standing.Place{Destination: destination, State: standing.Good, Newest: newest, Oldest: left[0].Time, Backups: len(left), Free: &free, Asked: true,
		NextDue: time.Date(2026, 11, 30, 0, 0, 0, 0, time.Local)}, Policy: policy.String()}
	every := retention.Interval(now, left)
	goes := map[string]time.Time{}
	if text != "" {
		goes = retention.Forecast(policy, now, left, every, now.AddDate(0, 0, lookAhead))
		for _, s := range retention.Outlook(policy, now, left, every, now.AddDate(1, 0, 0)) {
			p.Outlook = append(p.Outlook, s.Time)
		}
	}
	for i, v := range retention.Decide(policy, now, left) {
		sent, freed := int64(1<<20+i*i*9973), uint64(400<<10+i*7919)
		one := Version{Name: v.Name, Complete: true, Keep: v.Keep, Why: v.Reasons, Goes: goes[v.Name], Sent: &sent, Freed: &freed}
		one.Time, _ = time.ParseInLocation("20060102-150405", v.Name, time.Local)
		p.Versions = append([]Version{one}, p.Versions...)
	}
	for i := days - 1; i >= 0; i-- {
		at, bytes := now.AddDate(0, 0, -i), int64(900<<10)<<(i*7919%6)
		if i == days-1 {
			bytes = 220 << 30
		}
		p.Sent = append(p.Sent, Amount{at, bytes})
		p.Room = append(p.Room, Amount{at, int64(free) + int64(i)<<28})
	}
	return p
}

// example gives a picture of all that there can be. It is not to be changed.
var example = sync.OnceValue(func() Picture {
	usb, nas, away := kept("/mnt/usb/home", "14d 8w 12m *y", 900), kept("ssh://root@nas/backup/laptop/home", "60d 24m", 365), kept("/mnt/archive/home", "12m", 365)
	usb.Versions[3].Damaged, usb.Versions[3].Verified = true, now.AddDate(0, 0, -2)
	usb.Versions[1].Verified = now.AddDate(0, 0, -1)
	nas.State, nas.Newest, nas.MaxAge = standing.Late, now.AddDate(0, 0, -3), standing.Seconds(48*time.Hour)
	nas.Versions = nas.Versions[3:]
	nas.Versions[0].Complete = false
	away.State, away.Away, away.Asked, away.Free, away.Policy, away.Outlook = standing.Away, "disk archive is not mounted", false, nil, "", nil
	for i := range away.Versions {
		v := &away.Versions[i]
		*v = Version{Name: v.Name, Time: v.Time, OnRecord: true, Keep: true, Sent: v.Sent}
	}
	etc := kept("/mnt/usb/etc", "", 40)
	for i := range etc.Versions {
		size, fresh, linked := uint64(9<<20), int64(123<<10), int64(8<<20)
		v := &etc.Versions[i]
		v.Files, v.Size, v.New, v.Linked = int64(2412+i), &size, &fresh, &linked
	}
	snapshots := kept("", "24h 7d", 30)
	snapshots.State, snapshots.Sent, snapshots.Room, snapshots.Free = "", nil, nil, nil
	refused := hint.New(errors.New("connecting to nas: connection refused"), "is sshd running there? `ssh root@nas` tells")
	runs := []report.Run{
		{Time: now.Add(-8 * time.Hour), Job: "home", Duration: 3 * time.Second, Outcome: engine.Partly, Status: 3, Destinations: []report.Destination{
			{Destination: "/mnt/usb/home", Saved: []string{"20261129-013100"}, Bytes: 1 << 20, Deleted: []string{"20261115-013114"}},
			{Destination: "ssh://root@nas/backup/laptop/home", Failures: []engine.Failure{{Err: refused}}},
		}},
		{Time: now.Add(-32 * time.Hour), Job: "home", Duration: 2 * time.Second, Outcome: engine.Done, Destinations: []report.Destination{{Destination: "/mnt/usb/home", Saved: []string{"20261128-013101"}, Bytes: 3 << 20}}},
	}
	p := Picture{Time: now, Machine: "laptop", Jobs: []Job{
		{Name: "home", Source: "/home", Every: "daily", Places: []Place{usb, nas, away, snapshots}, Runs: runs},
		{Name: "etc", Source: "/etc", Every: "daily", Places: []Place{etc}, Runs: runs[1:]},
	}, Running: []underway.Run{{PID: 4711, Job: "home", Source: "/home", Began: now.Add(-3 * time.Minute), Transfers: []progress.Now{
		{Title: "/mnt/usb/home: 20261129-094100", Bytes: 105 << 20, Total: 220 << 20, Rate: 18 << 20, Remaining: 6 * time.Second},
		{Title: "nas:/backup/laptop/home: 20261129-094100", Bytes: 28 << 20, Rate: 6 << 20},
	}}}}
	for i := range p.Jobs {
		p.warn(standing.Job{LastRun: &p.Jobs[i].Runs[0]}, &p.Jobs[i])
	}
	return p
})

// large gives a picture of one job, with so many daily backups at so many destinations, of which a policy gives up none or most.
func large(destinations, backups int, policy string) Picture {
	p := Picture{Time: now, Machine: "laptop", Jobs: []Job{{Name: "home", Source: "/home", Every: "daily"}}}
	for i := range destinations {
		p.Jobs[0].Places = append(p.Jobs[0].Places, kept(fmt.Sprintf("/mnt/usb%d/home", i), policy, backups))
	}
	for i := range mostRuns {
		p.Jobs[0].Runs = append(p.Jobs[0].Runs, report.Run{Time: now.AddDate(0, 0, -i), Outcome: engine.Done, Destinations: []report.Destination{
			{Destination: "/mnt/usb0/home", Saved: []string{"20261128-013101"}, Bytes: 3 << 20, Deleted: []string{"1"}}}})
	}
	return p
}
