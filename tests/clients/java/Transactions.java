import java.io.FileWriter;
import java.io.PrintWriter;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Java kafka-clients: `produce BOOT TOPIC ID TRANSACTIONS`, `transact BOOT SOURCE TARGET GROUP TRANSACTIONS` or
 * `copy BOOT SOURCE TARGET GROUP COUNT PROGRESS`.
 */
public class Transactions {
    public static void main(String[] args) {
        try {
            run(args);
        } catch (Throwable error) {
            // Kafka's exceptions carry no stack trace, which the source launcher stumbles over.
            System.err.println(error);
            System.exit(1);
        }
    }

    static void run(String[] args) throws Exception {
        if (args[0].equals("produce")) {
            produce(args[1], args[2], args[3], Integer.parseInt(args[4]));
        } else if (args[0].equals("transact")) {
            transact(args[1], args[2], args[3], args[4], Integer.parseInt(args[5]));
        } else {
            copy(args[1], args[2], args[3], args[4], Integer.parseInt(args[5]), args[6]);
        }
    }

    static KafkaProducer<String, String> producer(String bootstrap, String id) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("transactional.id", id);
        config.put("linger.ms", "5");
        config.put("transaction.timeout.ms", "20000");
        config.put("reconnect.backoff.max.ms", "200");
        KafkaProducer<String, String> producer =
            new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    /** Ten records in each; every third transaction is aborted. */
    static void produce(String bootstrap, String topic, String id, int transactions) {
        try (KafkaProducer<String, String> producer = producer(bootstrap, id)) {
            for (int number = 0; number < transactions; number++) {
                boolean aborted = number % 3 == 2;
                producer.beginTransaction();
                for (int n = 0; n < 10; n++) {
                    String value = (aborted ? "aborted-" : "committed-") + number + "-" + n;
                    producer.send(new ProducerRecord<>(topic, Integer.toString(n), value));
                }
                if (aborted) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        }
    }

    /**
     * Ten records to TARGET in each, every third transaction aborted, values `committed-T-N` and `aborted-T-N`; each
     * moves GROUP's offset on SOURCE's only partition by ten.
     */
    static void transact(String bootstrap, String source, String target, String group, int transactions) {
        TopicPartition partition = new TopicPartition(source, 0);
        int done = 0;
        try (KafkaProducer<String, String> producer = producer(bootstrap, group)) {
            for (int number = 0; number < transactions; number++) {
                boolean aborted = number % 3 == 1;
                producer.beginTransaction();
                for (int n = 0; n < 10; n++) {
                    String value = (aborted ? "aborted-" : "committed-") + number + "-" + n;
                    producer.send(new ProducerRecord<>(target, Integer.toString(n), value));
                }
                Map<TopicPartition, OffsetAndMetadata> offsets = Map.of(partition, new OffsetAndMetadata(done + 10));
                producer.sendOffsetsToTransaction(offsets, new ConsumerGroupMetadata(group));
                if (aborted) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                    done += 10;
                }
            }
        }
    }

    static KafkaConsumer<String, String> consumer(String bootstrap, String group) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("group.id", group);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        config.put("isolation.level", "read_committed");
        config.put("session.timeout.ms", "10000");
        config.put("max.poll.records", "100");
        config.put("reconnect.backoff.max.ms", "200");
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    static void copy(String bootstrap, String source, String target, String group, int count, String progress)
            throws Exception {
        long deadline = System.nanoTime() + Duration.ofSeconds(150).toNanos();
        int done = 0;
        try (PrintWriter out = new PrintWriter(new FileWriter(progress, true), true);
                KafkaConsumer<String, String> consumer = consumer(bootstrap, group)) {
            consumer.subscribe(List.of(source));
            KafkaProducer<String, String> producer = producer(bootstrap, "copier-" + group);
            while (done < count) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(done + " of " + count + " copied");
                }
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(500));
                if (records.isEmpty()) {
                    continue;
                }
                try {
                    copyBatch(consumer, producer, records, target);
                    done += records.count();
                    out.println(done);
                } catch (KafkaException error) {
                    System.err.println("aborting: " + error);
                    producer = abort(bootstrap, group, producer);
                    rewind(consumer);
                }
            }
            producer.close();
        }
    }

    static void copyBatch(KafkaConsumer<String, String> consumer, KafkaProducer<String, String> producer,
            ConsumerRecords<String, String> records, String target) {
        producer.beginTransaction();
        for (ConsumerRecord<String, String> record : records) {
            producer.send(new ProducerRecord<>(target, record.key(), record.value()));
        }
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (TopicPartition partition : records.partitions()) {
            List<ConsumerRecord<String, String>> of = records.records(partition);
            offsets.put(partition, new OffsetAndMetadata(of.get(of.size() - 1).offset() + 1));
        }
        producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
        while (true) {
            try {
                producer.commitTransaction();
                return;
            } catch (TimeoutException again) {
                System.err.println("committing again: " + again);
            }
        }
    }

    /** The same producer after an abort, or a new instance where that is not possible. */
    static KafkaProducer<String, String> abort(String bootstrap, String group, KafkaProducer<String, String> producer) {
        try {
            producer.abortTransaction();
            return producer;
        } catch (KafkaException fatal) {
            producer.close(Duration.ZERO);
            return producer(bootstrap, "copier-" + group);
        }
    }

    static void rewind(KafkaConsumer<String, String> consumer) {
        Set<TopicPartition> assigned = consumer.assignment();
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(assigned);
        for (TopicPartition partition : assigned) {
            OffsetAndMetadata offset = committed.get(partition);
            consumer.seek(partition, offset == null ? 0 : offset.offset());
        }
    }
}
