package main

import (
	"github.com/spf13/pflag"

	"btrfs-backup/internal/job"
	"btrfs-backup/retention"
)

// policyFlag is a retention policy. The term last=N may also be given by an option of its own.
type policyFlag retention.Policy

func (p *policyFlag) Type() string { return "policy" }

func (p *policyFlag) String() string { return retention.Policy(*p).String() }

func (p *policyFlag) Set(text string) error {
	policy, err := retention.Parse(text)
	if err != nil {
		return err
	}
	if policy.Last == 0 {
		policy.Last = p.Last
	}
	*p = policyFlag(policy)
	return nil
}

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
	f.Var((*policyFlag)(snapshots), "keep-snapshots", "keep snapshots by `POLICY`, such as 24h7d")
	f.Var((*policyFlag)(backups), "keep-backups", "keep backups by `POLICY`, such as 14d8w12m")
}

func checkPolicies(snapshots, backups retention.Policy, rule string) (c job.Complaints) {
	job.CheckNumber("num-snapshots", snapshots.Last, &c)
	job.CheckNumber("num-backups", backups.Last, &c)
	job.CheckCompat(rule, snapshots, []retention.Policy{backups}, &c)
	return c
}

// policyHint is the way forward for what is no policy, or no number.
func policyHint(flag *pflag.Flag, text string) string {
	if flag.Value.Type() == "policy" {
		return "a policy has " + retention.Grammar
	}
	by, isNumber := map[string]string{"num-snapshots": "keep-snapshots", "num-backups": "keep-backups"}[flag.Name]
	if _, err := retention.Parse(text); err != nil || !isNumber {
		return ""
	}
	return "--" + by + " " + text + " keeps by the calendar"
}
