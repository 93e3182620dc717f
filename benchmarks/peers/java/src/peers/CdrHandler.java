package peers;

import java.io.IOException;

/** Turns one raw record into the Avro bytes of a finished one, or says why it must be rejected. */
interface CdrHandler {
    /** Returns null, and then holds the result until the next call; or the code of the reject. */
    String handle(byte[] value) throws IOException;

    byte[] imsi();

    byte[] avro();
}
