package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const explanation = `
The clients withdraw money from accounts that may not go below zero; for every 600 paid in there are
ten withdrawals of 60. Contention is how many of the accounts are in use, and how many clients work
at a time. A rate counts the withdrawals that were done or refused in a second. Retries are counted
for each withdrawal. p50 and p99 are the time that a client waits for one withdrawal, with its
retries and their pauses.

A "lane, waiting" client asks and waits for the outcome. A "lane, asking" client does not wait: its
rate is the number of requests divided by the time until the lane had settled all of them, and its
p50 and p99 are those of asking. For each withdrawal the lane writes a request, a job, a transfer
and two entries. "Row lock, same rows" writes the same but for the job, and does not touch the row of
the bank; the others write one row beside the account. After each measurement the program verifies
that exactly the withdrawals that clients were told of exist, that the sums are right, and that no
account is below zero.
`

// report is everything in Markdown: who wins where, SERIALIZABLE beside the row lock, and all the numbers.
func report(about string, all results, o options) string {
	var text strings.Builder
	text.WriteString("# Contention: the numbers\n\nMade by `make bench-contention`. [concurrency.md](concurrency.md) " +
		"says what they mean.\n\n" + about + explanation)
	text.WriteString("\n## The most withdrawals a second\n\n")
	grid(&text, o, func(accounts, clients int) string { return winner(all, accounts, clients) })
	text.WriteString("\n## SERIALIZABLE, in percent of the row lock\n\n")
	grid(&text, o, func(accounts, clients int) string {
		share, ok := percent(all, accounts, clients)
		if !ok {
			return "-"
		}
		return fmt.Sprintf("%.0f%%", share)
	})
	for _, clients := range o.clients {
		fmt.Fprintf(&text, "\n## %s\n\n| accounts | by | a second | retries for each | p50 ms | p99 ms | deadlocks |\n| "+
			"--: | --- | --: | --: | --: | --: | --: |\n", count(clients, "client"))
		for _, accounts := range o.accounts {
			for _, c := range contestants {
				m, ok := all[cell{c.name, accounts, clients}]
				if !ok {
					continue
				}
				fmt.Fprintf(&text, "| %s | %s | %s | %.2f | %s | %s | %d |\n", thousands(float64(accounts)), c.name,
					thousands(m.rate), m.retries,
					milliseconds(m.p50), milliseconds(m.p99), m.deadlocks)
			}
		}
	}
	return text.String()
}

// grid is a table of clients by accounts.
func grid(text *strings.Builder, o options, of func(accounts, clients int) string) {
	head, line := "| |", "| --- |"
	for _, accounts := range o.accounts {
		head += " " + count(accounts, "account") + " |"
		line += " --- |"
	}
	fmt.Fprintf(text, "%s\n%s\n", head, line)
	for _, clients := range o.clients {
		fmt.Fprintf(text, "| %s |", count(clients, "client"))
		for _, accounts := range o.accounts {
			fmt.Fprintf(text, " %s |", of(accounts, clients))
		}
		text.WriteString("\n")
	}
}

// winner is the fastest, and the fastest of those whose client knows the outcome if that is another.
func winner(all results, accounts, clients int) string {
	best := func(in func(contestant) bool) (name string, rate float64) {
		for _, c := range contestants {
			if m, ok := all[cell{c.name, accounts, clients}]; ok && in(c) && m.rate > rate {
				name, rate = c.name, m.rate
			}
		}
		return name, rate
	}
	name, rate := best(func(contestant) bool { return true })
	text := fmt.Sprintf("%s %s", name, thousands(rate))
	if i := slices.IndexFunc(contestants, func(c contestant) bool { return c.name == name }); i >= 0 &&
		contestants[i].asksOnly {
		if name, rate := best(func(c contestant) bool { return !c.asksOnly }); name != "" {
			text += fmt.Sprintf("; %s %s", name, thousands(rate))
		}
	}
	return text
}

// percent is the rate at SERIALIZABLE, of that with row locks.
func percent(all results, accounts, clients int) (share float64, ok bool) {
	strict, one := all[cell{bySerializable, accounts, clients}]
	locked, other := all[cell{byRowLock, accounts, clients}]
	if !one || !other || locked.rate == 0 {
		return 0, false
	}
	return 100 * strict.rate / locked.rate, true
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return thousands(float64(n)) + " " + what
}

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 1, 64)
}

// thousands is a whole number, with commas.
func thousands(n float64) string {
	digits := strconv.FormatFloat(n, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
