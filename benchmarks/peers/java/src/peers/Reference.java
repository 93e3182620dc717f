package peers;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** The reference data: `cells.csv` and `subscribers.csv` of a directory. */
final class Reference {
    record Place(double lat, double lon) {}

    record Subscriber(String segment, String plan) {}

    final Map<String, Place> places = new HashMap<>();
    final Map<String, Subscriber> subscribers = new HashMap<>();

    Reference(Path directory) throws IOException {
        for (String[] cell : rows(directory.resolve("cells.csv"))) {
            places.put(cell[0], new Place(Double.parseDouble(cell[1]), Double.parseDouble(cell[2])));
        }
        for (String[] row : rows(directory.resolve("subscribers.csv"))) {
            subscribers.put(row[0], new Subscriber(row[1], row[2]));
        }
    }

    private static Iterable<String[]> rows(Path file) throws IOException {
        return Files.readAllLines(file).stream().map(line -> line.split(",", -1)).toList();
    }
}
