package dev.orion.beam;

import java.io.File;
import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.util.Optional;
import java.util.jar.JarFile;

/**
 * Runs another main class, and ends this JVM when the process that started it has ended.
 *
 * <p>Python starts the job server, the expansion service and the development broker as child processes. When Python is
 * killed with SIGKILL it cannot stop them, and they would stay behind, holding ports and memory.
 *
 * <p>The real main class is named by the system property {@value #MAIN_CLASS_PROPERTY} or, with {@code java -jar}, by
 * the jar's manifest attribute {@value #MAIN_CLASS_ATTRIBUTE}.
 *
 * <p>The process to watch is the parent. A parent that dies before this class gets to look cannot be told from one that
 * never was: the kernel has handed the child on. So a parent that wants to close that gap gives its process id in the
 * environment variable {@value #PARENT_VARIABLE}: if there is no such process any more, this JVM ends at once.
 */
public final class ParentGuard {
  static final String MAIN_CLASS_PROPERTY = "orion.main.class";
  static final String MAIN_CLASS_ATTRIBUTE = "Orion-Main-Class";
  static final String PARENT_VARIABLE = "ORION_PARENT_PID";

  private static final long LOOK_EVERY_MS = 500;
  private static final int PARENT_IS_GONE = 143; // what a shell reports for SIGTERM

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
    String jar = System.getProperty("java.class.path"); // with "java -jar" that is the jar, and nothing else
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
   * Waits until the parent is gone. It is gone when this process has been handed on to another one: unlike {@link
   * ProcessHandle#isAlive}, that is not fooled by a dead parent that nobody has reaped. ({@link ProcessHandle#onExit}
   * would look every few seconds only.)
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
