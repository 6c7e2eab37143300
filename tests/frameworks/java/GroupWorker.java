import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Java kafka-clients as a member of a group: `BOOT TOPIC GROUP NAME PROTOCOL`, until standard input ends. PROTOCOL is an
 * assignor or `consumer` (KIP-848). Says what happens, a write a line, as tests/frameworks/groups/history.rs reads it.
 */
public class GroupWorker implements ConsumerRebalanceListener {
    static final FileOutputStream OUT = new FileOutputStream(FileDescriptor.out);
    static final Map<String, String> ASSIGNORS = Map.of(
        "range", RangeAssignor.class.getName(),
        "roundrobin", RoundRobinAssignor.class.getName(),
        "cooperative-sticky", CooperativeStickyAssignor.class.getName());
    /** A commit that is not answered by then is given up; it may count or not. */
    static final Duration PATIENCE = Duration.ofSeconds(15);

    final String name;
    final KafkaConsumer<String, String> consumer;
    /** What is processed and not committed: the next offset of each partition. */
    final Map<TopicPartition, OffsetAndMetadata> pending = new HashMap<>();

    public static void main(String[] args) throws Exception {
        AtomicBoolean stop = new AtomicBoolean();
        Thread input = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            stop.set(true);
        });
        input.setDaemon(true);
        input.start();
        new GroupWorker(args).run(args[1], stop);
    }

    GroupWorker(String[] args) {
        name = args[3];
        Properties config = new Properties();
        config.put("bootstrap.servers", args[0]);
        config.put("group.id", args[2]);
        config.put("client.id", name);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        if (args[4].equals("consumer")) {
            config.put("group.protocol", "consumer");
        } else {
            config.put("partition.assignment.strategy", ASSIGNORS.get(args[4]));
            config.put("session.timeout.ms", "10000");
            config.put("heartbeat.interval.ms", "300");
        }
        consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    void run(String topic, AtomicBoolean stop) {
        say("joining");
        consumer.subscribe(List.of(topic), this);
        while (!stop.get()) {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                say("record " + record.partition() + " " + record.offset() + " " + record.value().split(" ")[0]);
                TopicPartition partition = new TopicPartition(topic, record.partition());
                pending.put(partition, new OffsetAndMetadata(record.offset() + 1));
            }
            commit(pending);
        }
        say("leaving");
        consumer.close();
        say("left");
    }

    /** Commits, and forgets what was committed; what was refused is tried again as long as the partition is owned. */
    void commit(Map<TopicPartition, OffsetAndMetadata> wanted) {
        if (wanted.isEmpty()) {
            return;
        }
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>(pending);
        offsets.keySet().retainAll(wanted.keySet());
        String text = offsets.entrySet().stream()
            .map(entry -> entry.getKey().partition() + ":" + entry.getValue().offset())
            .collect(Collectors.joining(","));
        say("committing " + text);
        try {
            consumer.commitSync(offsets, PATIENCE);
        } catch (CommitFailedException | RebalanceInProgressException | RetriableException error) {
            say("refused " + text + " " + error.getClass().getSimpleName());
            return;
        }
        say("committed " + text);
        pending.keySet().removeAll(offsets.keySet());
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        say("assigned " + numbers(partitions));
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        say("revoking " + numbers(partitions));
        Map<TopicPartition, OffsetAndMetadata> last = new HashMap<>(pending);
        last.keySet().retainAll(partitions);
        commit(last);
        pending.keySet().removeAll(partitions);
        say("revoked " + numbers(partitions));
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        pending.keySet().removeAll(partitions);
        say("lost " + numbers(partitions));
    }

    static String numbers(Collection<TopicPartition> partitions) {
        return partitions.stream().map(part -> Integer.toString(part.partition())).collect(Collectors.joining(","));
    }

    /** Nanoseconds of Linux's monotonic clock, which all processes share. */
    void say(String what) {
        try {
            OUT.write((System.nanoTime() + " " + name + " " + what + "\n").getBytes(StandardCharsets.UTF_8));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
