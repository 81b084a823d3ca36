import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** A program of programs.test.mjs: socket.io-client for Java. Its arguments are URL NAME TOKEN [TRANSPORT]. */
final class Java {
    /** The client sends this map whenever it connects. All its values are strings: `offset` too. */
    private static final Map<String, String> AUTH = new ConcurrentHashMap<>();

    public static void main(String[] arguments) throws Exception {
        AUTH.put("name", arguments[1]);
        AUTH.put("token", arguments[2]);
        IO.Options options = IO.Options.builder().setAuth(AUTH).build();
        if (arguments.length > 3) {
            options.transports = new String[] {arguments[3]};
        }
        Socket socket = IO.socket(URI.create(arguments[0]), options);
        socket.on(Socket.EVENT_CONNECT, values -> report("connect"));
        socket.on(Socket.EVENT_DISCONNECT, values -> report("disconnect", values));
        socket.on(Socket.EVENT_CONNECT_ERROR, values -> report("connect_error", values[0].toString()));
        socket.on("history", Java::onHistory);
        socket.on("message", Java::onMessage);
        socket.connect();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String text = line;
            socket.emit("message", new Object[] {text}, (Ack) answer -> report("acknowledged", text, answer[0]));
        }
        System.exit(0);
    }

    private static void onHistory(Object... values) {
        try {
            JSONObject history = (JSONObject) values[0];
            AUTH.put("epoch", history.getString("epoch"));
            JSONArray messages = history.getJSONArray("messages");
            if (messages.length() > 0) {
                show(messages.getJSONObject(messages.length() - 1));
            }
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
        report("history", values);
    }

    private static void onMessage(Object... values) {
        try {
            show((JSONObject) values[1]);
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
        report("message", values);
    }

    private static void show(JSONObject message) throws JSONException {
        AUTH.put("offset", Long.toString(message.getLong("offset")));
    }

    private static synchronized void report(String event, Object... values) {
        JSONArray line = new JSONArray().put(event);
        for (Object value : values) {
            line.put(value);
        }
        System.out.println(line);
    }
}
