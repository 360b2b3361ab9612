import java.math.BigDecimal;
import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;

/** An order and its payment in one transaction, with JDBC: java -cp postgresql.jar Order.java */
public class Order {
    public static void main(String[] args) throws Exception {
        URI url = new URI(System.getenv("DATABASE_URL"));
        String[] user = url.getUserInfo().split(":", 2);
        try (Connection db = DriverManager.getConnection(
                "jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath(), user[0], user.length > 1 ? user[1] : "")) {
            db.setAutoCommit(false);

            order(db, "1042", "12.50", 1250);
            db.commit();

            order(db, "1043", "99.00", 9900);
            db.rollback();

            db.setAutoCommit(true);
            String settled;
            while ((settled = outcome(db, "order-1042")).startsWith("pending")) {
                Thread.sleep(100);
            }
            System.out.println("committed: " + settled);
            System.out.println("rolled back: " + (outcome(db, "order-1043") == null ? 0 : 1) + " requests");

            try (var statement = db.createStatement()) {
                statement.execute("SELECT lastseat.transfer('order-1042', 'customer:7', 'shop', 1, 'EUR')");
                throw new AssertionError("the key was used twice");
            } catch (SQLException e) {
                if (!"LS001".equals(e.getSQLState())) { // the key was used for another amount
                    throw e;
                }
            }
        }
    }

    static void order(Connection db, String number, String total, long cents) throws SQLException {
        try (var insert = db.prepareStatement("INSERT INTO shop.orders (id, total) VALUES (?, ?)")) {
            insert.setString(1, number);
            insert.setBigDecimal(2, new BigDecimal(total));
            insert.executeUpdate();
        }
        try (var pay = db.prepareStatement(
                "SELECT key, status, duplicate FROM lastseat.transfer(?, 'customer:7', 'shop', amount => ?, currency => 'EUR')")) {
            pay.setString(1, "order-" + number);
            pay.setLong(2, cents);
            pay.executeQuery();
        }
    }

    static String outcome(Connection db, String key) throws SQLException {
        try (var select = db.prepareStatement("SELECT status, code FROM lastseat.outcome(?)")) {
            select.setString(1, key);
            try (var rows = select.executeQuery()) {
                return rows.next() ? rows.getString("status") + " " + rows.getString("code") : null;
            }
        }
    }
}
