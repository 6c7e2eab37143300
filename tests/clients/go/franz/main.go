// franz-go: produce, consume through a group, be a member of one, or make transactions.
//
//	produce BOOT TOPIC PREFIX FIRST COUNT
//	consume BOOT TOPIC GROUP COUNT
//	member BOOT TOPIC GROUP NAME
//	transact BOOT SOURCE TARGET GROUP TRANSACTIONS
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark.test/clients/program"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	within := func(verb func(context.Context, []string) error) func([]string) error {
		return func(args []string) error { return verb(ctx, args) }
	}
	program.Run(map[string]func([]string) error{
		"produce": within(produce), "consume": within(consume), "member": member, "transact": within(transact),
	})
}

func client(bootstrap string, options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, kgo.SeedBrokers(strings.Split(bootstrap, ",")...))...)
}

func produce(ctx context.Context, args []string) error {
	first, count := program.Number(args[3]), program.Number(args[4])
	// Idempotent with acks from all is how it produces unless it is told otherwise.
	cl, err := client(args[0], kgo.DefaultProduceTopic(args[1]), kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		return err
	}
	defer cl.Close()
	var records []*kgo.Record
	for n := first; n < first+count; n++ {
		records = append(records, kgo.KeyStringRecord(strconv.Itoa(n), fmt.Sprintf("%s-%d", args[2], n)))
	}
	return cl.ProduceSync(ctx, records...).FirstErr()
}

// group is what consumers of a group have in common: what was returned by a poll is processed before partitions move.
func group(topic, group string) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
	}
}

func consume(ctx context.Context, args []string) error {
	cl, err := client(args[0], group(args[1], args[2])...)
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance()
	count := program.Number(args[3])
	for seen := 0; seen < count; {
		fetches := cl.PollRecords(ctx, count-seen)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("%d of %d records: %w", seen, count, err)
		}
		fetches.EachRecord(func(record *kgo.Record) { program.Say(string(record.Value)) })
		seen += fetches.NumRecords()
		cl.AllowRebalance()
	}
	return cl.CommitUncommittedOffsets(ctx)
}

// member processes records until standard input ends and says what happens: `NAME assigned P,P`, `NAME revoked P,P`,
// `NAME record P VALUE`, `NAME left`.
func member(args []string) error {
	topic, name, ctx := args[1], args[3], program.UntilInputEnds()
	options := append(group(topic, args[2]),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			program.Say(name, "assigned", program.List(assigned[topic]))
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, cl *kgo.Client, revoked map[string][]int32) {
			if err := cl.CommitUncommittedOffsets(ctx); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			program.Say(name, "revoked", program.List(revoked[topic]))
		}))
	cl, err := client(args[0], options...)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		fetches := cl.PollRecords(ctx, 500)
		if err := fetches.Err(); err != nil && ctx.Err() == nil {
			return err
		}
		fetches.EachRecord(func(record *kgo.Record) { program.Say(name, "record", record.Partition, string(record.Value)) })
		cl.AllowRebalance()
	}
	cl.CloseAllowingRebalance()
	program.Say(name, "left")
	return nil
}

// transact makes transactions of ten records of SOURCE, which become `committed-T-N` and, in every third, `aborted-T-N`.
func transact(ctx context.Context, args []string) error {
	source, target, transactions := args[1], args[2], program.Number(args[4])
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(strings.Split(args[0], ",")...),
		kgo.TransactionalID(args[3]), kgo.ConsumerGroup(args[3]), kgo.ConsumeTopics(source), kgo.DefaultProduceTopic(target),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// A partition that the transaction before is about to end in is tried again after the next look at metadata.
		kgo.RequireStableFetchOffsets(), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer session.Close()
	for t := 0; t < transactions; t++ {
		for have := 0; have < 10; {
			fetches := session.PollRecords(ctx, 10-have)
			if err := fetches.Err(); err != nil {
				return err
			}
			have += fetches.NumRecords()
		}
		kind, end := "committed", kgo.TryCommit
		if t%3 == 1 {
			kind, end = "aborted", kgo.TryAbort
		}
		if err := session.Begin(); err != nil {
			return err
		}
		var records []*kgo.Record
		for n := 0; n < 10; n++ {
			records = append(records, kgo.KeyStringRecord(strconv.Itoa(n), fmt.Sprintf("%s-%d-%d", kind, t, n)))
		}
		if err := session.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return err
		}
		committed, err := session.End(ctx, end)
		if err != nil {
			return err
		}
		if committed != (end == kgo.TryCommit) {
			return fmt.Errorf("transaction %d: committed %t, wanted %s", t, committed, kind)
		}
	}
	return nil
}
