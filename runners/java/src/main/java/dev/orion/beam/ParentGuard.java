package dev.orion.beam;

import java.io.File;
import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.util.Optional;
import java.util.jar.JarFile;

/**
 * Main class that runs another main class, and ends this JVM when the process that started it has ended.
 *
 * <p>Python starts the job server, the expansion service and the development broker as child processes. When Python is
 * killed with SIGKILL it cannot stop them, and they would keep their ports and memory.
 *
 * <p>The system property {@value #MAIN_CLASS_PROPERTY} names the real main class. With {@code java -jar} the attribute
 * {@value #MAIN_CLASS_ATTRIBUTE} in the jar's manifest does.
 *
 * <p>The guard watches the parent process. If the parent dies before the guard looks first, the kernel has given the
 * JVM another parent already, and the guard cannot notice the death. A parent that wants to close this gap puts its
 * process id into the environment variable {@value #PARENT_VARIABLE}. The JVM ends at once if that process does not
 * exist.
 */
public final class ParentGuard {
  static final String MAIN_CLASS_PROPERTY = "orion.main.class";
  static final String MAIN_CLASS_ATTRIBUTE = "Orion-Main-Class";
  static final String PARENT_VARIABLE = "ORION_PARENT_PID";

  private static final long LOOK_EVERY_MS = 500;
  private static final int PARENT_IS_GONE = 143; // exit code that a shell reports for SIGTERM

  private ParentGuard() {}

  /** Watches the parent and calls the real main class with {@code args}. */
  public static void main(String[] args) throws Throwable {
    watchParent();
    try {
      Class.forName(mainClass()).getMethod("main", String[].class).invoke(null, (Object) args);
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
  }

  private static String mainClass() throws IOException {
    String property = System.getProperty(MAIN_CLASS_PROPERTY);
    if (property != null) {
      return property;
    }
    String jar = System.getProperty("java.class.path"); // with "java -jar" this is the path of the jar
    if (new File(jar).isFile()) {
      try (JarFile file = new JarFile(jar)) {
        String attribute = file.getManifest().getMainAttributes().getValue(MAIN_CLASS_ATTRIBUTE);
        if (attribute != null) {
          return attribute;
        }
      }
    }
    throw new IllegalStateException(
        "no main class: set the property " + MAIN_CLASS_PROPERTY + " or the manifest attribute " + MAIN_CLASS_ATTRIBUTE);
  }

  private static void watchParent() {
    long parent = parentPid();
    String named = System.getenv(PARENT_VARIABLE);
    Optional<ProcessHandle> ancestor = named == null ? Optional.empty() : ProcessHandle.of(Long.parseLong(named.trim()));
    if (named != null && ancestor.isEmpty()) {
      Runtime.getRuntime().halt(PARENT_IS_GONE);
    }
    if (parent == 0 && ancestor.isEmpty()) {
      return; // the first process of a container has no parent to outlive
    }
    Thread watcher = new Thread(() -> haltWithout(parent, ancestor), "orion-parent-guard");
    watcher.setDaemon(true);
    watcher.start();
  }

  /**
   * Waits until the parent has ended, and halts. The parent has ended when this process has another parent. In
   * contrast, {@link ProcessHandle#isAlive} takes a zombie (a dead parent that is not reaped) for alive, and {@link
   * ProcessHandle#onExit} looks only every few seconds.
   */
  private static void haltWithout(long parent, Optional<ProcessHandle> ancestor) {
    while (parentPid() == parent && ancestor.map(ProcessHandle::isAlive).orElse(true)) {
      try {
        Thread.sleep(LOOK_EVERY_MS);
      } catch (InterruptedException e) {
        return;
      }
    }
    Runtime.getRuntime().halt(PARENT_IS_GONE);
  }

  private static long parentPid() {
    return ProcessHandle.current().parent().map(ProcessHandle::pid).orElse(0L);
  }
}
