package peers;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;

/** Flink SQL: runs the statements of job.sql, each of which ends with a semicolon at the end of a line. */
public final class SqlJob {
    public static void main(String[] args) throws Exception {
        Job job = Job.of(args);
        StreamTableEnvironment tables = StreamTableEnvironment.create(job.environment());
        tables.getConfig().addJobParameter(Lookups.REFERENCE, job.reference().toString());
        StatementSet inserts = tables.createStatementSet();
        for (String statement : script().split(";\n")) {
            String sql =
                    statement
                            .replaceAll("(?m)^--.*$", "")
                            .replace("${bootstrap}", job.bootstrapServers())
                            .replace("${group}", job.group())
                            .strip();
            if (sql.startsWith("INSERT")) {
                inserts.addInsertSql(sql);
            } else if (!sql.isEmpty()) {
                tables.executeSql(sql);
            }
        }
        inserts.execute().await();
    }

    private static String script() throws IOException {
        try (var file = SqlJob.class.getResourceAsStream("/job.sql")) {
            return new String(file.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    private SqlJob() {}
}
