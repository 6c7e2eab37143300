// sarama: produce, consume through a group, be a member of one, or make transactions.
//
//	produce BOOT TOPIC PREFIX FIRST COUNT
//	consume BOOT TOPIC GROUP COUNT
//	member BOOT TOPIC GROUP NAME
//	transact BOOT SOURCE TARGET GROUP TRANSACTIONS
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"tidemark.test/clients/program"
)

func main() {
	program.Run(map[string]func([]string) error{
		"produce": produce, "consume": consume, "member": member, "transact": transact,
	})
}

func producer(bootstrap, transactionalID string) (sarama.SyncProducer, error) {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Transaction.ID = transactionalID
	config.Net.MaxOpenRequests = 1
	return sarama.NewSyncProducer(strings.Split(bootstrap, ","), config)
}

func message(topic string, key int, value string) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{
		Topic: topic, Key: sarama.StringEncoder(strconv.Itoa(key)), Value: sarama.StringEncoder(value),
	}
}

func produce(args []string) error {
	first, count := program.Number(args[3]), program.Number(args[4])
	to, err := producer(args[0], "")
	if err != nil {
		return err
	}
	var messages []*sarama.ProducerMessage
	for n := first; n < first+count; n++ {
		messages = append(messages, message(args[1], n, fmt.Sprintf("%s-%d", args[2], n)))
	}
	return errors.Join(to.SendMessages(messages), to.Close())
}

// handler processes records as long as `take` wants them, and commits when the partitions move.
type handler struct {
	mutex   sync.Mutex
	take    func(*sarama.ConsumerMessage) bool
	changed func(what string, partitions []int32)
}

func (h *handler) Setup(session sarama.ConsumerGroupSession) error {
	for _, partitions := range session.Claims() {
		h.changed("assigned", partitions)
	}
	return nil
}

func (h *handler) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	for _, partitions := range session.Claims() {
		h.changed("revoked", partitions)
	}
	return nil
}

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case record, open := <-claim.Messages():
			if !open {
				return nil
			}
			h.mutex.Lock()
			if session.Context().Err() == nil && h.take(record) {
				session.MarkMessage(record, "")
			}
			h.mutex.Unlock()
		case <-session.Context().Done():
			return nil
		}
	}
}

// run is a member of the group until the context ends.
func run(ctx context.Context, bootstrap, topic, group string, h *handler) error {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	consumer, err := sarama.NewConsumerGroup(strings.Split(bootstrap, ","), group, config)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := consumer.Consume(ctx, []string{topic}, h); err != nil && ctx.Err() == nil {
			return errors.Join(err, consumer.Close())
		}
	}
	return consumer.Close()
}

func consume(args []string) error {
	count, seen := program.Number(args[3]), 0
	ctx, stop := context.WithTimeout(context.Background(), 60*time.Second)
	defer stop()
	take := func(record *sarama.ConsumerMessage) bool {
		if seen == count {
			return false
		}
		program.Say(string(record.Value))
		seen++
		if seen == count {
			stop()
		}
		return true
	}
	if err := run(ctx, args[0], args[1], args[2], &handler{take: take, changed: func(string, []int32) {}}); err != nil {
		return err
	}
	if seen != count {
		return fmt.Errorf("%d of %d records within 60 s", seen, count)
	}
	return nil
}

// member processes records until standard input ends and says what happens: `NAME assigned P,P`, `NAME revoked P,P`,
// `NAME record P VALUE`, `NAME left`.
func member(args []string) error {
	name := args[3]
	ctx := program.UntilInputEnds()
	take := func(record *sarama.ConsumerMessage) bool {
		program.Say(name, "record", record.Partition, string(record.Value))
		return true
	}
	changed := func(what string, partitions []int32) {
		program.Say(name, what, program.List(partitions))
	}
	if err := run(ctx, args[0], args[1], args[2], &handler{take: take, changed: changed}); err != nil {
		return err
	}
	program.Say(name, "left")
	return nil
}

// transact makes transactions of ten records to TARGET, every third aborted, values `committed-T-N` and `aborted-T-N`;
// each moves GROUP's offset on SOURCE's only partition by ten.
func transact(args []string) error {
	source, target, group, transactions := args[1], args[2], args[3], program.Number(args[4])
	to, err := producer(args[0], group)
	if err != nil {
		return err
	}
	done := int64(0)
	for t := 0; t < transactions; t++ {
		kind, end := "committed", to.CommitTxn
		if t%3 == 1 {
			kind, end = "aborted", to.AbortTxn
		}
		if err := to.BeginTxn(); err != nil {
			return err
		}
		var messages []*sarama.ProducerMessage
		for n := 0; n < 10; n++ {
			messages = append(messages, message(target, n, fmt.Sprintf("%s-%d-%d", kind, t, n)))
		}
		if err := to.SendMessages(messages); err != nil {
			return err
		}
		offsets := map[string][]*sarama.PartitionOffsetMetadata{source: {{Partition: 0, Offset: done + 10}}}
		if err := to.AddOffsetsToTxn(offsets, group); err != nil {
			return err
		}
		if err := end(); err != nil {
			return err
		}
		if kind == "committed" {
			done += 10
		}
	}
	return to.Close()
}
