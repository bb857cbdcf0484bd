package main

import (
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// defineNames defines how snapshots and backups are named.
func defineNames(s *job.Spec, f *pflag.FlagSet) {
	f.StringVar((*string)(&s.Scheme), "name", "", "`SCHEME`: btrbk-long, btrbk-short, btrbk-long-iso")
}

func defineCompat(rule *string, f *pflag.FlagSet) {
	f.StringVar(rule, "compat", "", "take policies by the rule of `PROGRAM`: btrbk")
}

// defineKeep defines what is kept on either side.
func defineKeep(snapshots, backups *retention.Policy, f *pflag.FlagSet) {
	f.IntVarP(&snapshots.Last, "num-snapshots", "N", 0, "keep the newest `N` snapshots; 0 keeps all")
	f.IntVarP(&backups.Last, "num-backups", "n", 0, "keep the newest `N` at each DEST; 0 keeps all")
	f.Var((*arguments.Policy)(snapshots), "keep-snapshots", "keep snapshots by `POLICY`, such as 24h7d")
	f.Var((*arguments.Policy)(backups), "keep-backups", "keep backups by `POLICY`, such as 14d8w12m")
}

func checkPolicies(snapshots, backups retention.Policy, rule string) (c job.Complaints) {
	job.CheckNumber("num-snapshots", snapshots.Last, &c)
	job.CheckNumber("num-backups", backups.Last, &c)
	job.CheckCompat(rule, snapshots, []retention.Policy{backups}, &c)
	return c
}
