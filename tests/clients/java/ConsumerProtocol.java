import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Java kafka-clients with group.protocol=consumer (KIP-848): `BOOTSTRAP TOPIC GROUP`, a topic of six partitions. */
public class ConsumerProtocol {
    static final int PARTITIONS = 6;

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0];
        String topic = args[1];
        String group = args[2];
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        try (Admin admin = Admin.create(config)) {
            KafkaConsumer<String, String> first = member(bootstrap, group, null);
            first.subscribe(List.of(topic));
            until("alone", List.of(first), () -> has(first, PARTITIONS));
            KafkaConsumer<String, String> second = member(bootstrap, group, null);
            second.subscribe(new SubscriptionPattern(topic));
            until("two share", List.of(first, second), () -> has(first, 3) && has(second, 3));
            ConsumerGroupDescription description =
                admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
            check(description.type().toString().equals("Consumer"), description);
            check(description.members().size() == 2, description);
            second.close();
            until("one left", List.of(first), () -> has(first, PARTITIONS));
            first.commitSync();
            first.close();
            for (int round = 0; round < 2; round++) {
                KafkaConsumer<String, String> member = member(bootstrap, group + "-static", "one");
                member.subscribe(List.of(topic));
                until("static", List.of(member), () -> has(member, PARTITIONS));
                member.close();
            }
            check(admin.describeFeatures().featureMetadata().get().finalizedFeatures().containsKey("group.version"), "feature");
            admin.deleteConsumerGroups(List.of(group)).all().get();
        }
    }

    static KafkaConsumer<String, String> member(String bootstrap, String group, String instance) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("group.id", group);
        config.put("group.protocol", "consumer");
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        if (instance != null) {
            config.put("group.instance.id", instance);
        }
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    static boolean has(KafkaConsumer<String, String> member, int count) {
        return member.assignment().size() == count;
    }

    static void until(String what, List<KafkaConsumer<String, String>> members, BooleanSupplier holds) {
        long deadline = System.nanoTime() + Duration.ofSeconds(90).toNanos();
        while (!holds.getAsBoolean()) {
            check(System.nanoTime() < deadline, what + ": not within 90 s");
            for (KafkaConsumer<String, String> member : members) {
                member.poll(Duration.ofMillis(50)).forEach(record -> System.out.println(record.value()));
            }
        }
    }

    static void check(boolean holds, Object what) {
        if (!holds) {
            throw new IllegalStateException(what.toString());
        }
    }
}
